"""The official PyTorch MossFormer2 (PyPI `clearvoice`) as an oracle, and writers of the official checkpoint families.

`clearvoice` is loaded past its `__init__`, which imports its whole toolkit and silences every warning of the process.
"""

import importlib
import importlib.util
import json
import sys
import types
from pathlib import Path

import numpy as np
import torch

# The small layers here gain nothing from a second thread; on a busy machine, waiting for it takes 100 times as long.
torch.set_num_threads(1)

PACKAGE = "official_mossformer2"
MISSING = "the official code is not installed (make setup installs clearvoice==0.1.2)"

FAMILY_C_RENAMES = (  # family A's prefix -> family C's; the first that fits counts
    ("enc.", "encoder."),
    ("dec.", "decoder."),
    ("mask_net.mdl.intra_mdl.mossformerM.", "masknet.dual_mdl.0.intra_mdl.mdl.flashT."),
    ("mask_net.mdl.intra_mdl.norm.", "masknet.dual_mdl.0.intra_mdl.mdl.norm.norm."),
    ("mask_net.mdl.intra_norm.", "masknet.dual_mdl.0.intra_norm."),
    ("mask_net.", "masknet."),
)
FAMILY_D_RENAMES = (
    ("enc.", "encoder."),
    ("dec.", "decoder."),
    ("mask_net.mdl.intra_mdl.mossformerM.", "masknet.mdl.att_mdl.mossformerM."),
    ("mask_net.mdl.intra_mdl.norm.", "masknet.mdl.att_mdl.norm.norm."),
    ("mask_net.mdl.intra_norm.", "masknet.mdl.att_norm."),
    ("mask_net.", "masknet."),
)


def is_installed() -> bool:
    """Whether the official code and its dependencies are installed; `make test` installs them."""
    needed = ("clearvoice", "einops", "rotary_embedding_torch", "torchinfo")
    return all(importlib.util.find_spec(name) is not None for name in needed)


def official_module(name: str) -> types.ModuleType:
    """One module of `clearvoice.models.mossformer2_ss`, under our own package name."""
    if PACKAGE not in sys.modules:
        root = Path(importlib.util.find_spec("clearvoice").origin).parent
        package = types.ModuleType(PACKAGE)
        package.__path__ = [str(root / "models" / "mossformer2_ss")]
        sys.modules[PACKAGE] = package
    return importlib.import_module(f"{PACKAGE}.{name}")


class DirectDecoding(torch.nn.Module):
    """The WHAMR! variant of the official model: the mask net's output is decoded without the product."""

    def __init__(self, network: torch.nn.Module):
        super().__init__()
        self.network = network

    def forward(self, mixture_bt):
        features_cbnl = self.network.mask_net(self.network.enc(mixture_bt))
        sources = [self.network.dec(features_bnl) for features_bnl in features_cbnl]
        t = mixture_bt.shape[1]
        return [torch.nn.functional.pad(source, (0, t - source.shape[1])) for source in sources]


def build(config, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """The official network of `config`'s sizes with perturbed weights, in eval mode.

    Each dtype needs a new network, because the official code caches the rotary angles of the first run. The weights are
    always drawn in float32, so that networks with the same seed have the same weights.
    """
    official = official_module("mossformer2")
    torch.manual_seed(seed)
    network = official.MossFormer(
        in_channels=config.encoder_channels,
        out_channels=config.model_channels,
        num_blocks=config.num_blocks,
        kernel_size=config.kernel_size,
        num_spks=config.num_sources,
    )
    if config.fsmn_channels is None:  # MossFormer v1
        network.mask_net.mdl.intra_mdl = official.MossFormerM2(config.num_blocks, config.model_channels)
    perturb(network, seed)
    return network.to(dtype).eval()


def perturb(module: torch.nn.Module, seed: int) -> None:
    """Moves every parameter that starts constant (gain, slope, bias, beta, scale) away from it, and draws gamma wide.

    Otherwise errors could go unnoticed: swapping two gains of ones changes nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith("gamma"):
                parameter.copy_(0.5 * noise)
            elif name.endswith("rotary_pos_emb.freqs"):
                continue
            elif (parameter == parameter.flatten()[0]).all():
                parameter.add_(0.1 * noise)


def forward(network: torch.nn.Module, mixture_bt: np.ndarray, direct_decoding: bool = False) -> np.ndarray:
    """Runs the official network on a numpy batch; (b, c, t)."""
    network = DirectDecoding(network) if direct_decoding else network
    with torch.no_grad():
        sources = network(torch.from_numpy(mixture_bt))
    return np.stack([source.numpy() for source in sources], axis=1)


def rename(state_dict: dict, renames: tuple) -> dict:
    """Renames family A's keys by the first prefix that fits."""

    def renamed(key: str) -> str:
        old, new = next((old, new) for old, new in renames if key.startswith(old))
        return new + key.removeprefix(old)

    return {renamed(key): value for key, value in state_dict.items()}


def write_family_a(folder: Path, state_dict: dict) -> None:
    """ClearerVoice: a text pointer, and a training checkpoint with the optimizer's state."""
    folder.mkdir()
    (folder / "last_best_checkpoint").write_text("last_best_checkpoint.pt\n")
    optimizer = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4}]}
    checkpoint = {"model": state_dict, "optimizer": optimizer, "epoch": 7, "step": 1234}
    torch.save(checkpoint, folder / "last_best_checkpoint.pt")


def write_family_b(folder: Path, state_dict: dict) -> None:
    """ModelScope, MossFormer2: a bare state dict."""
    folder.mkdir()
    torch.save(state_dict, folder / "pytorch_model.pt")


def family_c_config(config) -> dict:
    """The config.json of family C."""
    name = "mossformer2-whamr-2spk" if config.direct_decoding else "mossformer2-librimix-2spk"
    return {
        "model_type": "mossformer2",
        "config_name": name,
        "sample_rate": 8000,
        "encoder_kernel_size": config.kernel_size,
        "encoder_in_nchannels": 1,
        "encoder_out_nchannels": config.encoder_channels,
        "masknet_numspks": config.num_sources,
        "masknet_chunksize": 250,
        "masknet_numlayers": 1,
        "masknet_norm": "ln",
        "masknet_useextralinearlayer": False,
        "masknet_extraskipconnection": True,
        "intra_numlayers": config.num_blocks,
        "intra_nhead": 8,
        "intra_dffn": 1024,
        "intra_dropout": 0,
        "intra_use_positional": True,
        "intra_norm_before": True,
    }


def write_family_c(folder: Path, state_dict: dict, config) -> None:
    """Hugging Face: config.json and pytorch_model.bin."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(family_c_config(config), indent=2))
    torch.save(rename(state_dict, FAMILY_C_RENAMES), folder / "pytorch_model.bin")


def write_in_three(folder: Path, state_dict: dict, suffix: str) -> None:
    """encoder, masknet and decoder as separate bare state dicts without their roots (families C and D)."""
    folder.mkdir()
    for part in ("encoder", "masknet", "decoder"):
        root = part + "."
        own = {key.removeprefix(root): value for key, value in state_dict.items() if key.startswith(root)}
        torch.save(own, folder / (part + suffix))


def write_family_c_in_three(folder: Path, state_dict: dict, config) -> None:
    """Hugging Face: encoder.ckpt, masknet.ckpt, decoder.ckpt beside config.json."""
    write_in_three(folder, rename(state_dict, FAMILY_C_RENAMES), ".ckpt")
    (folder / "config.json").write_text(json.dumps(family_c_config(config), indent=2))


def write_family_d(folder: Path, state_dict: dict) -> None:
    """ModelScope, MossFormer v1: encoder.bin, masknet.bin, decoder.bin."""
    write_in_three(folder, rename(state_dict, FAMILY_D_RENAMES), ".bin")
