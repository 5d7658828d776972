"""The convert command: output, errors, and equal separation by converted and official models."""

import dataclasses

import numpy as np
import pytest
import torch

from mossformer_jax.cli import main, make_parser
from mossformer_jax.model import ModelConfig
from mossformer_jax.weights import load_model, load_parameters, save_model
from mossformer_jax.weights.store import STORAGE_DTYPES
from tests.parity import oracle

pytestmark = pytest.mark.skipif(not oracle.is_installed(), reason=oracle.MISSING)

CONFIG = ModelConfig(encoder_channels=24, model_channels=24, num_blocks=1)
WHAMR = dataclasses.replace(CONFIG, direct_decoding=True)


@pytest.fixture(scope="module")
def network():
    return oracle.build(CONFIG)


@pytest.fixture
def official(tmp_path, network):
    oracle.write_family_c(tmp_path / "official", network.state_dict(), WHAMR)
    return tmp_path / "official"


def convert(*arguments) -> int:
    return main(["convert", *(str(argument) for argument in arguments)])


@pytest.mark.medium
def test_a_converted_model_separates_like_the_official_one(tmp_path, official, network, rng, capsys):
    assert convert("--input", official, "--output", tmp_path / "ours") == 0
    printed = capsys.readouterr().out
    assert "family C, Hugging Face mossformer2-*spk (8 kHz)" in printed
    assert "MossFormer2, 2 sources, 1 blocks, 24 channels, 8000 Hz, decoded directly" in printed

    model = load_model(tmp_path / "ours")
    assert f"{model.num_parameters:,} parameters" in printed
    mixture_bt = 0.1 * rng.standard_normal((1, 1200)).astype(np.float32)
    expected = oracle.forward(network, mixture_bt, direct_decoding=True)
    # Measured float32 rounding is 4e-7 (docs/parity.md); the float64 bound is in tests/parity.
    assert np.linalg.norm(model(mixture_bt) - expected) < 1e-5 * np.linalg.norm(expected)


def test_converting_back_gives_identical_tensors(tmp_path, official, capsys):
    assert convert("--input", official, "--output", tmp_path / "ours") == 0
    assert convert("--to-torch", "--family", "C", "--input", tmp_path / "ours", "--output", tmp_path / "back") == 0
    before, after = (torch.load(folder / "pytorch_model.bin") for folder in (official, tmp_path / "back"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert "note" not in capsys.readouterr().out


def test_the_flags_are_applied_to_the_stored_model(tmp_path, official):
    output = tmp_path / "ours"
    options = ["--sample-rate", 16000, "--no-direct-decoding", "--storage", "float16"]
    assert convert("--input", official, "--output", output, *options) == 0
    config, parameters = load_parameters(output)
    assert config == dataclasses.replace(CONFIG, sample_rate=16000)
    kernel = parameters["decoder.kernel"]
    np.testing.assert_array_equal(kernel, kernel.astype(np.float16))


def test_writing_family_a_notes_fields_that_are_not_stored(tmp_path, official, capsys):
    convert("--input", official, "--output", tmp_path / "ours", "--no-direct-decoding")
    assert convert("--to-torch", "--input", tmp_path / "ours", "--output", tmp_path / "back") == 0
    printed = capsys.readouterr().out
    assert "note     sample_rate=8000 is not stored in this format: software that reads it assumes 16000" in printed
    assert "note     input_level_db=None is not stored in this format: software that reads it assumes -25.0" in printed


def test_writing_a_checkpoint_notes_that_output_gains_and_shifts_are_not_stored(tmp_path, network, official, capsys):
    convert("--input", official, "--output", tmp_path / "ours")
    config, parameters = load_parameters(tmp_path / "ours")
    save_model(tmp_path / "levelled", dataclasses.replace(config, output_gains=(5.6, 0.9), shifts=2), parameters)
    flags = ["--to-torch", "--family", "C", "--output", tmp_path / "back"]
    assert convert(*flags, "--input", tmp_path / "levelled") == 0
    printed = capsys.readouterr().out
    assert "note     output_gains is not stored in this format: multiply the outputs by 5.6, 0.9\n" in printed
    assert "note     shifts=2 is not stored in this format: average that many shifted copies\n" in printed


def error_of(capsys, *arguments) -> str:
    assert convert(*arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err


@pytest.mark.medium
def test_a_non_empty_output_folder_needs_overwrite(tmp_path, official, capsys):
    output = tmp_path / "ours"
    assert convert("--input", official, "--output", output) == 0
    capsys.readouterr()
    message = error_of(capsys, "--input", official, "--output", output)
    assert "is not empty; name a new folder, or add --overwrite" in message
    assert convert("--input", official, "--output", output, "--overwrite", "--sample-rate", 16000) == 0
    assert load_parameters(output)[0].sample_rate == 16000


def test_bad_input_gives_one_line_and_no_output(tmp_path, official, capsys):
    output = tmp_path / "ours"
    assert "no such file or folder" in error_of(capsys, "--input", tmp_path / "nothing", "--output", output)
    (official / "pytorch_model.bin").write_bytes(b"damaged")
    assert "pytorch_model.bin: is damaged, or not a PyTorch file" in error_of(
        capsys, "--input", official, "--output", output
    )
    assert not output.exists()


def test_a_model_unsupported_by_the_official_code_is_an_error(tmp_path, tiny_model_folder, tiny_config, capsys):
    message = error_of(capsys, "--to-torch", "--input", tiny_model_folder, "--output", tmp_path / "back")
    for field in ("group_size is 32", "query_key_channels is 8", "fsmn_channels is 8", "encoder_channels is 16"):
        assert field in message
    assert not (tmp_path / "back").exists()


def test_the_error_for_a_model_folder_as_input_suggests_to_torch(tmp_path, tiny_model_folder, capsys):
    message = error_of(capsys, "--input", tiny_model_folder, "--output", tmp_path / "ours")
    assert "is already a mossformer-jax model; to convert it to PyTorch, add --to-torch" in message


def test_the_command_offers_all_storage_dtypes():
    with pytest.raises(SystemExit):
        main(["convert", "--input", "a", "--output", "b", "--storage", "bfloat16"])
    for storage in STORAGE_DTYPES:
        assert make_parser().parse_args(["convert", "--input", "a", "--output", "b", "--storage", storage])
