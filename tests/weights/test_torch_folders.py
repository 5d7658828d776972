"""Checkpoint folders of users: training runs of the authors' programs, clones, nested and prefixed state dicts."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest
import torch
from safetensors.torch import load_model as load_module

from mossformer_jax.cli import main
from mossformer_jax.model import ModelConfig
from mossformer_jax.weights import load_parameters
from mossformer_jax.weights.torch_checkpoints import load_torch_checkpoint, save_torch_checkpoint
from tests.parity import oracle

pytestmark = pytest.mark.skipif(not oracle.is_installed(), reason=oracle.MISSING)

CONFIG = ModelConfig(encoder_channels=24, model_channels=24, num_blocks=1)
V1 = dataclasses.replace(CONFIG, fsmn_channels=None)
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb\nsize 12345\n"


@pytest.fixture(scope="module")
def network():
    return oracle.build(CONFIG)


@pytest.fixture(scope="module")
def v1_state_dict():
    return oracle.build(V1).state_dict()


@pytest.fixture
def state_dict(network):
    return network.state_dict()


def error_of(source, **options) -> str:
    with pytest.raises((ValueError, FileNotFoundError), match=": ") as caught:
        load_torch_checkpoint(source, **options)
    assert "\n" not in str(caught.value)
    assert str(caught.value).isascii()
    return str(caught.value)


def decoder_of(source, **options) -> np.ndarray:
    return load_torch_checkpoint(source, **options).parameters["decoder.kernel"]


def write_speechbrain(folder, state_dict, scores: str, shift: float = 0.0) -> None:
    """One checkpoint of a SpeechBrain run, with the state of the run; `shift` marks its decoder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    shifted = state_dict | {"dec.weight": state_dict["dec.weight"] + shift}
    oracle.write_in_three(folder, oracle.rename(shifted, oracle.FAMILY_D_RENAMES), ".ckpt")
    (folder / "CKPT.yaml").write_text(f"# yamllint disable\n{scores}end-of-epoch: true\n")
    (folder / "brain.ckpt").write_text("avg_train_loss: 0.0\noptimizer_step: 20\nstep: 20\n")
    (folder / "counter.ckpt").write_text("3")
    torch.save({"sampler": 1}, folder / "dataloader-TRAIN.ckpt")
    torch.save(torch.optim.Adam([torch.zeros(2)]).state_dict(), folder / "optimizer.ckpt")


@pytest.mark.medium
@pytest.mark.parametrize("place", ["save", "work/save"])
def test_the_best_checkpoint_of_a_speechbrain_run_is_read(tmp_path, v1_state_dict, place):
    save = tmp_path / place
    scores = {"CKPT+2024-01-01+01-00-00+00": (-14.5, 1.0), "CKPT+2024-01-01+02-00-00+00": (-15.25, 2.0)}
    scores["CKPT+2024-01-01+03-00-00+00"] = (-15.0, 3.0)
    for name, (score, shift) in scores.items():
        write_speechbrain(save / name, v1_state_dict, f"si-snr: {score}\nunixtime: 1.0\n", shift)
    for folder in {tmp_path, tmp_path / place.partition("/")[0], save}:
        checkpoint = load_torch_checkpoint(folder)
        assert (checkpoint.family, checkpoint.config) == ("D", V1)
        assert "CKPT+2024-01-01+02-00-00+00: best si-snr (-15.25) of 3" in checkpoint.note
        assert np.allclose(checkpoint.parameters["decoder.kernel"], v1_state_dict["dec.weight"][:, 0] + 2.0)
    # A folder or file that is given is read, whatever its score.
    first = save / "CKPT+2024-01-01+01-00-00+00"
    for source in (first, first / "masknet.ckpt"):
        assert np.allclose(decoder_of(source), v1_state_dict["dec.weight"][:, 0] + 1.0)


def test_without_scores_the_newest_checkpoint_is_read(tmp_path, v1_state_dict, capsys):
    for number in (1, 3, 2):
        write_speechbrain(
            tmp_path / "save" / f"CKPT+{number}", v1_state_dict, f"unixtime: {number}00.5\nWER: nan\n", number
        )
    assert main(["convert", "--input", str(tmp_path), "--output", str(tmp_path / "ours")]) == 0
    where = os.path.join("save", "CKPT+3")
    assert f"note     read {where}: newest of 3, which have no si-snr" in capsys.readouterr().out
    kernel = load_parameters(tmp_path / "ours")[1]["decoder.kernel"]
    assert np.allclose(kernel, v1_state_dict["dec.weight"][:, 0] + 3.0)


def test_the_error_for_an_incomplete_training_checkpoint_names_the_file(tmp_path, v1_state_dict):
    write_speechbrain(tmp_path / "save" / "CKPT+1", v1_state_dict, "")
    (tmp_path / "save" / "CKPT+1" / "decoder.ckpt").unlink()
    assert "decoder.ckpt: no such file; encoder, masknet, decoder must be" in error_of(tmp_path)


@pytest.mark.parametrize(
    "entry", ["state_dict", "model_state_dict", "model", "generator", "ema", "ema_state_dict", "best.weights.net"]
)
def test_a_nested_state_dict_is_found(tmp_path, state_dict, entry):
    loaded = state_dict
    for name in reversed(entry.split(".")):
        loaded = {name: loaded, "epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}}
    torch.save(loaded, tmp_path / "nested.ckpt")
    checkpoint = load_torch_checkpoint(tmp_path / "nested.ckpt")
    assert checkpoint.family == ("A" if entry == "model" else "B")
    np.testing.assert_array_equal(checkpoint.parameters["decoder.kernel"], state_dict["dec.weight"][:, 0])


@pytest.mark.parametrize(
    "prefix",
    ["_orig_mod.", "net.", "module._orig_mod.", "_orig_mod.module.model.", "net.module.", "model.net._orig_mod."],
)
def test_prefixes_are_removed_in_any_order(state_dict, prefix):
    wrapped = {prefix + name: value for name, value in state_dict.items()}
    np.testing.assert_array_equal(decoder_of({"state_dict": wrapped}), state_dict["dec.weight"][:, 0])
    compiled = {name.replace("mask_net.", "mask_net._orig_mod."): value for name, value in state_dict.items()}
    np.testing.assert_array_equal(decoder_of(compiled), state_dict["dec.weight"][:, 0])
    assert "unknown loss.weight" in error_of(wrapped | {"loss.weight": torch.zeros(1)})


class FamilyC(torch.nn.Module):
    """The official modules under the names of family C."""

    def __init__(self, network):
        super().__init__()
        source = network.mask_net
        self.encoder, self.decoder, self.masknet = network.enc, network.dec, torch.nn.Module()
        for name in (
            "norm",
            "conv1d_encoder",
            "pos_enc",
            "conv1d_out",
            "conv1_decoder",
            "prelu",
            "output",
            "output_gate",
        ):
            setattr(self.masknet, name, getattr(source, name))
        block, intra, stack = torch.nn.Module(), torch.nn.Module(), torch.nn.Module()
        stack.flashT, stack.norm = source.mdl.intra_mdl.mossformerM, torch.nn.Module()
        stack.norm.norm = source.mdl.intra_mdl.norm
        intra.mdl, block.intra_mdl, block.intra_norm = stack, intra, source.mdl.intra_norm
        self.masknet.dual_mdl = torch.nn.ModuleList([block])


@pytest.mark.medium
def test_a_written_family_c_is_read_by_the_loader_of_from_pretrained(tmp_path, state_dict):
    checkpoint = load_torch_checkpoint({"model": state_dict})
    save_torch_checkpoint(tmp_path / "back", checkpoint.config, checkpoint.parameters, "C")
    theirs = FamilyC(oracle.build(CONFIG, seed=1))
    expected = oracle.rename(state_dict, oracle.FAMILY_C_RENAMES)
    assert theirs.state_dict().keys() == expected.keys()
    # PyTorchModelHubMixin.from_pretrained calls this, with strict=False.
    assert load_module(theirs, str(tmp_path / "back" / "model.safetensors"), strict=True) == (set(), [])
    assert all(torch.equal(value, expected[name]) for name, value in theirs.state_dict().items())
    np.testing.assert_array_equal(decoder_of(tmp_path / "back"), state_dict["dec.weight"][:, 0])


@pytest.mark.medium
def test_the_input_level_can_be_overridden(tmp_path, state_dict):
    oracle.write_family_a(tmp_path / "a", state_dict)
    options = ["--input-level", "none", "--sample-rate", "8000"]
    assert main(["convert", "--input", str(tmp_path / "a"), "--output", str(tmp_path / "ours"), *options]) == 0
    assert load_parameters(tmp_path / "ours")[0] == CONFIG
    assert load_torch_checkpoint(tmp_path / "a", input_level_db=-20.0).config.input_level_db == -20.0
    with pytest.raises(SystemExit):
        main(["convert", "--input", "a", "--output", "b", "--input-level", "loud"])


@pytest.mark.parametrize("name", ["last_best_checkpoint", "last_best_checkpoint.pt", "config.json", "x.safetensors"])
def test_a_git_lfs_pointer_is_named(tmp_path, state_dict, name):
    if name == "config.json":
        oracle.write_family_c(tmp_path / "official", state_dict, CONFIG)
    elif name == "x.safetensors":
        (tmp_path / "official").mkdir()
    else:
        oracle.write_family_a(tmp_path / "official", state_dict)
    (tmp_path / "official" / name).write_bytes(LFS)
    assert f"{name}: is a Git LFS pointer, not the file itself; run: git lfs pull" in error_of(tmp_path / "official")


@pytest.mark.parametrize("name", ["../secret.pt", "/etc/passwd", "..", "sub/x.pt", "..\\secret.pt"])
def test_a_pointer_may_not_lead_outside_its_folder(tmp_path, state_dict, name):
    oracle.write_family_a(tmp_path / "a", state_dict)
    torch.save(state_dict, tmp_path / "secret.pt")
    (tmp_path / "a" / "last_best_checkpoint").write_text(name + "\n")
    assert "outside its folder; it may only name a file beside it" in error_of(tmp_path / "a").replace("which is ", "")


def test_a_pointer_that_is_itself_a_checkpoint_is_read(tmp_path, state_dict):
    oracle.write_family_a(tmp_path / "a", state_dict)
    (tmp_path / "a" / "last_best_checkpoint.pt").replace(tmp_path / "a" / "last_best_checkpoint")
    for source in (tmp_path / "a", tmp_path / "a" / "last_best_checkpoint"):
        assert load_torch_checkpoint(source).config.input_level_db == -25.0


@pytest.mark.parametrize("content", [b"\x00\xff\x13binary", b"", b"x" * 5000])
def test_a_pointer_that_is_no_text_is_named_without_its_bytes(tmp_path, state_dict, content):
    oracle.write_family_a(tmp_path / "a", state_dict)
    (tmp_path / "a" / "last_best_checkpoint").write_bytes(content)
    assert error_of(tmp_path / "a").endswith(
        "last_best_checkpoint: does not contain the name of a checkpoint; copy the file again"
    )


@pytest.mark.medium
def test_several_checkpoints_are_accepted_only_if_they_are_equal(tmp_path, state_dict):
    folder = tmp_path / "mossformer2-librimix-2spk"
    renamed = oracle.rename(state_dict, oracle.FAMILY_C_RENAMES)
    oracle.write_in_three(folder, renamed, ".ckpt")
    torch.save(renamed, folder / "pytorch_model.bin")
    assert load_torch_checkpoint(folder).source == str(folder / "pytorch_model.bin")
    torch.save(renamed | {"decoder.weight": renamed["decoder.weight"] + 1}, folder / "pytorch_model.bin")
    message = "contains several checkpoints; give one of pytorch_model.bin, encoder.ckpt + masknet.ckpt + decoder.ckpt"
    assert message in error_of(folder)
    np.testing.assert_array_equal(decoder_of(folder / "decoder.ckpt"), state_dict["dec.weight"][:, 0])
    (folder / "pytorch_model.bin").replace(folder / "stray.pt")
    assert "contains several checkpoints; give one of stray.pt, encoder.ckpt" in error_of(folder)


def test_a_damaged_byte_is_not_converted(tmp_path, state_dict, capsys):
    oracle.write_family_b(tmp_path / "b", state_dict)
    file = tmp_path / "b" / "pytorch_model.pt"
    data = bytearray(file.read_bytes())
    data[data.index(state_dict["dec.weight"].numpy().tobytes()) + 5] ^= 4
    file.write_bytes(data)
    assert main(["convert", "--input", str(tmp_path / "b"), "--output", str(tmp_path / "ours")]) == 1
    assert "is damaged (the checksum of its record pytorch_model/data/" in capsys.readouterr().err
    assert not (tmp_path / "ours").exists()
