"""Conversion of the four published families of PyTorch checkpoints, in both directions.

Only writing needs PyTorch. Conversion is strict: every tensor of the checkpoint and of the model must be matched.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mossformer_jax.atomic import write_atomically
from mossformer_jax.model import ModelConfig
from mossformer_jax.weights.folders import FORMAT, is_model_folder
from mossformer_jax.weights.parameters import Parameters, flatten, parameter_problems
from mossformer_jax.weights.torch_files import (
    WRAPPED,
    Contents,
    import_torch,
    read,
    save,
    to_numpy,
    to_safetensors,
    unwrap,
)
from mossformer_jax.weights.torch_folders import POINTERS, find, several_checkpoints
from mossformer_jax.weights.torch_mapping import (
    FAMILY_DEFAULTS,
    from_official,
    recognise_family,
    to_official,
)

WHAMR = "mossformer2-whamr-2spk"  # the only config_name of family C with direct decoding of the mask net's output
FAMILY_C_NAMES = (WHAMR, "mossformer2-librimix-2spk", "mossformer2-wsj0mix-3spk")
# Required values in family C's config.json besides the sizes; other values mean a different network.
FIXED_SETTINGS = {
    "model_type": "mossformer2",
    "encoder_in_nchannels": 1,
    "masknet_numlayers": 1,
    "masknet_norm": "ln",
    "masknet_useextralinearlayer": False,
    "masknet_extraskipconnection": True,
}
SIZE_SETTINGS = {
    "encoder_kernel_size": "kernel_size",
    "encoder_out_nchannels": "encoder_channels",
    "masknet_numspks": "num_sources",
    "intra_numlayers": "num_blocks",
}


@dataclass(frozen=True)
class TorchCheckpoint:
    """An official checkpoint, converted.

    Attributes:
        family: "A", "B", "C" or "D", as listed in docs/names.md.
        config: the model's sizes and options.
        parameters: all parameters and frequency tables by dotted name, float32.
        source: the file or folder that was read.
        note: how it was chosen among others; may be empty.
    """

    family: str
    config: ModelConfig
    parameters: Parameters
    source: str = ""
    note: str = ""


def load_torch_checkpoint(
    source: str | os.PathLike[str] | Mapping[str, Any],
    *,
    sample_rate: int | None = None,
    direct_decoding: bool | None = None,
    input_level_db: float | Literal["none"] | None = None,
    network: str | None = None,
) -> TorchCheckpoint:
    """Loads an official checkpoint: a file, a folder or a state dict of any of the four families.

    Training state (optimizer, epoch, step) is ignored.

    Args:
        source: a checkpoint file, its folder, the folder of a training run, or a state dict (bare, or nested).
        sample_rate: in Hz; overrides the default of the family.
        direct_decoding: overrides the value in the checkpoint's config.json.
        input_level_db: overrides the default of the family, in dB; "none" if the model takes its input as it is.
        network: which network to take if the file contains several, by the name that the error lists.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the checkpoint does not belong to any family, or does not match exactly; one error lists all
            differences by their official names.
    """
    overrides: dict[str, Any] = {"sample_rate": sample_rate, "direct_decoding": direct_decoding}
    overrides = {name: value for name, value in overrides.items() if value is not None}
    if input_level_db is not None:
        overrides["input_level_db"] = None if input_level_db == "none" else input_level_db
    if isinstance(source, Mapping):
        return _convert(unwrap(source, "state dict", network), overrides)
    checkpoints = [_convert(contents, overrides) for contents in read(Path(source), network)]
    first, *others = checkpoints
    if any(not _is_equal(first, other) for other in others):
        raise several_checkpoints(Path(source), find(Path(source)))
    return first


def _convert(contents: Contents, overrides: Mapping[str, Any]) -> TorchCheckpoint:
    try:
        family = recognise_family(contents.state_dict, from_clearervoice=contents.from_clearervoice)
        state_dict = {key: to_numpy(key, value) for key, value in contents.state_dict.items()}
        options = dict(FAMILY_DEFAULTS[family])
        if family == "C":
            options |= _family_c_options(contents, overrides.get("direct_decoding"))
        config, parameters = from_official(state_dict, family, {**options, **overrides})
        if family == "C" and contents.settings is not None:
            _check_settings(contents.settings, config)
    except ValueError as error:
        raise ValueError(f"{contents.source}: {error}") from None
    return TorchCheckpoint(family, config, parameters, contents.source, contents.note)


def _is_equal(left: TorchCheckpoint, right: TorchCheckpoint) -> bool:
    return left.config == right.config and all(
        np.array_equal(array, right.parameters[name]) for name, array in left.parameters.items()
    )


def to_torch_state_dict(config: ModelConfig, params: Mapping[str, Any], family: str = "A") -> dict[str, Any]:
    """Converts parameters to an official state dict of torch tensors, for `load_state_dict(..., strict=True)`.

    The state dict does not include `config.output_gains`; multiply the outputs by them after separation.
    Nor does it include `config.shifts`.

    Args:
        config: the model's sizes and options.
        params: all parameters and frequency tables, nested or by dotted name.
        family: "A" (ClearerVoice, also ModelScope) or "C" (Hugging Face mossformer2-*spk).

    Raises:
        ValueError: the official code does not support this config, or the parameters do not match the config; the
            message names all fields or parameters.
    """
    parameters = {name: array.astype(np.float32) for name, array in flatten(params).items()}
    if problems := parameter_problems(config, parameters):
        raise ValueError(f"the parameters do not match the config: {'; '.join(problems)}")
    state_dict = to_official(config, parameters, family)
    torch = import_torch()
    return {name: torch.from_numpy(array) for name, array in state_dict.items()}


def save_torch_checkpoint(
    path: str | os.PathLike[str], config: ModelConfig, params: Mapping[str, Any], family: str = "A"
) -> None:
    """Writes a folder in the format of the official code of family A or C.

    Raises:
        ValueError: as `to_torch_state_dict`; or the folder contains a mossformer-jax model, or (for family C) a
            checkpoint of family A, which would take precedence when the folder is read.
    """
    folder = Path(path)
    state_dict = to_torch_state_dict(config, params, family)
    if is_model_folder(folder):
        raise ValueError(f"{folder}: contains a {FORMAT} model, which would be overwritten; give another folder")
    if family == "C" and (older := [name for name in POINTERS if (folder / name).exists()]):
        raise ValueError(f"{folder}: contains a checkpoint of another family ({older[0]}); give another folder")
    folder.mkdir(parents=True, exist_ok=True)
    if family == "A":
        save(folder / "last_best_checkpoint.pt", {WRAPPED: state_dict})
        write_atomically(folder / POINTERS[0], b"last_best_checkpoint.pt\n")
        return
    save(folder / "pytorch_model.bin", state_dict)
    # The official class reads this file, by `from_pretrained`.
    write_atomically(folder / "model.safetensors", to_safetensors(state_dict))
    settings = {
        **FIXED_SETTINGS,
        "config_name": WHAMR if config.direct_decoding else f"mossformer2-{config.num_sources}spk",
        "sample_rate": config.sample_rate,
        **{setting: getattr(config, field) for setting, field in SIZE_SETTINGS.items()},
        # Read by the official constructor, but without effect on the network.
        "masknet_chunksize": 250,
        "intra_nhead": 8,
        "intra_dffn": 1024,
        "intra_dropout": 0,
        "intra_use_positional": True,
        "intra_norm_before": True,
    }
    write_atomically(folder / "config.json", (json.dumps(settings, indent=2) + "\n").encode())


def _family_c_options(contents: Contents, direct_decoding: bool | None) -> dict[str, Any]:
    """Sample rate and decoding of family C, from config.json or the folder name; the tensors do not determine them."""
    settings = contents.settings or {}
    source = Path(contents.source)
    folder = source.parent.name if source.is_file() else source.name
    name = settings.get("config_name", folder if folder in FAMILY_C_NAMES else None)
    if name is None and direct_decoding is None:
        raise ValueError(
            "no config_name in config.json, so it is unknown whether the mask net's output is decoded directly; give "
            "--direct-decoding (direct_decoding=True) for the WHAMR! model, --no-direct-decoding (False) for all others"
        )
    options = {"direct_decoding": name == WHAMR}
    return options | {"sample_rate": settings["sample_rate"]} if "sample_rate" in settings else options


def _check_settings(settings: Mapping[str, Any], config: ModelConfig) -> None:
    """Raises a ValueError that lists all settings of config.json that contradict the tensors."""
    expected = {**FIXED_SETTINGS, **{setting: getattr(config, field) for setting, field in SIZE_SETTINGS.items()}}
    wrong = [
        f"{name} is {settings[name]!r}, but the tensors belong to a network with {value!r}"
        for name, value in expected.items()
        if name in settings and settings[name] != value
    ]
    if wrong:
        raise ValueError(f"config.json does not match the tensors: {'; '.join(wrong)}")
