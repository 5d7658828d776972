"""The conversion command: what it prints, what it refuses, and that a converted model separates as the official one."""

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


def test_a_converted_model_separates_as_the_official_one(tmp_path, official, network, rng, capsys):
    assert convert("--input", official, "--output", tmp_path / "ours") == 0
    printed = capsys.readouterr().out
    assert "family C, Hugging Face mossformer2-*spk (8 kHz)" in printed
    assert "MossFormer2, 2 sources, 1 blocks, 24 channels, 8000 Hz, decoded directly" in printed

    model = load_model(tmp_path / "ours")
    assert f"{model.num_parameters:,} parameters" in printed
    mixture_bt = 0.1 * rng.standard_normal((1, 1200)).astype(np.float32)
    expected = oracle.forward(network, mixture_bt, direct_decoding=True)
    # float32 rounding measures 4e-7 (docs/parity.md); tests/parity holds the float64 bound.
    assert np.linalg.norm(model(mixture_bt) - expected) < 1e-5 * np.linalg.norm(expected)


def test_there_and_back_is_bit_for_bit(tmp_path, official, capsys):
    assert convert("--input", official, "--output", tmp_path / "ours") == 0
    assert convert("--to-torch", "--family", "C", "--input", tmp_path / "ours", "--output", tmp_path / "back") == 0
    before, after = (torch.load(folder / "pytorch_model.bin") for folder in (official, tmp_path / "back"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert "note" not in capsys.readouterr().out


def test_the_flags_reach_the_stored_model(tmp_path, official):
    output = tmp_path / "ours"
    options = ["--sample-rate", 16000, "--no-direct-decoding", "--storage", "float16"]
    assert convert("--input", official, "--output", output, *options) == 0
    config, parameters = load_parameters(output)
    assert config == dataclasses.replace(CONFIG, sample_rate=16000)
    kernel = parameters["decoder.kernel"]
    np.testing.assert_array_equal(kernel, kernel.astype(np.float16))


def test_writing_family_a_notes_what_it_cannot_hold(tmp_path, official, capsys):
    convert("--input", official, "--output", tmp_path / "ours", "--no-direct-decoding")
    assert convert("--to-torch", "--input", tmp_path / "ours", "--output", tmp_path / "back") == 0
    printed = capsys.readouterr().out
    assert "note     sample_rate=8000 is not stored in this format: software that reads it assumes 16000" in printed
    assert "note     input_level_db=None is not stored in this format: software that reads it assumes -25.0" in printed


def test_the_way_back_says_that_gains_of_the_outputs_are_not_part_of_it(tmp_path, network, official, capsys):
    convert("--input", official, "--output", tmp_path / "ours")
    config, parameters = load_parameters(tmp_path / "ours")
    save_model(tmp_path / "levelled", dataclasses.replace(config, output_gains=(5.6, 0.9)), parameters)
    flags = ["--to-torch", "--family", "C", "--output", tmp_path / "back"]
    assert convert(*flags, "--input", tmp_path / "levelled") == 0
    printed = capsys.readouterr().out
    assert "note     output_gains is not stored in this format: multiply the outputs by 5.6, 0.9\n" in printed


def refused(capsys, *arguments) -> str:
    assert convert(*arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err


def test_an_output_that_is_not_empty_is_refused_unless_overwritten(tmp_path, official, capsys):
    output = tmp_path / "ours"
    assert convert("--input", official, "--output", output) == 0
    capsys.readouterr()
    message = refused(capsys, "--input", official, "--output", output)
    assert "is not empty; name a new folder, or add --overwrite" in message
    assert convert("--input", official, "--output", output, "--overwrite", "--sample-rate", 16000) == 0
    assert load_parameters(output)[0].sample_rate == 16000


def test_bad_input_is_one_line_and_writes_nothing(tmp_path, official, capsys):
    output = tmp_path / "ours"
    assert "no such file or folder" in refused(capsys, "--input", tmp_path / "nothing", "--output", output)
    (official / "pytorch_model.bin").write_bytes(b"damaged")
    assert "pytorch_model.bin: is no PyTorch file" in refused(capsys, "--input", official, "--output", output)
    assert not output.exists()


def test_a_model_that_the_official_code_cannot_hold_is_refused(tmp_path, tiny_model_folder, tiny_config, capsys):
    message = refused(capsys, "--to-torch", "--input", tiny_model_folder, "--output", tmp_path / "back")
    for field in ("group_size is 32", "query_key_channels is 8", "fsmn_channels is 8", "encoder_channels is 16"):
        assert field in message
    assert not (tmp_path / "back").exists()


def test_our_own_folder_as_input_is_told_about_the_way_back(tmp_path, tiny_model_folder, capsys):
    message = refused(capsys, "--input", tiny_model_folder, "--output", tmp_path / "ours")
    assert "is a mossformer-jax model already; --to-torch converts it to PyTorch" in message


def test_the_command_offers_every_number_format_that_can_be_stored():
    with pytest.raises(SystemExit):
        main(["convert", "--input", "a", "--output", "b", "--storage", "bfloat16"])
    for storage in STORAGE_DTYPES:
        assert make_parser().parse_args(["convert", "--input", "a", "--output", "b", "--storage", storage])
