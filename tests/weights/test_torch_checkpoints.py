"""Strict conversion of the official checkpoint families in both directions."""

import dataclasses
import json
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from safetensors.torch import save_model as save_module

from mossformer_jax.model import ModelConfig
from mossformer_jax.weights import parameter_shapes, save_model
from mossformer_jax.weights.torch_checkpoints import (
    load_torch_checkpoint,
    save_torch_checkpoint,
    to_torch_state_dict,
)
from mossformer_jax.weights.torch_mapping import from_official, to_official
from tests.parity import oracle

pytestmark = pytest.mark.skipif(not oracle.is_installed(), reason=oracle.MISSING)

CONFIG = ModelConfig(encoder_channels=24, model_channels=24, num_blocks=2, num_sources=3)
WHAMR = dataclasses.replace(CONFIG, direct_decoding=True)
V1 = dataclasses.replace(CONFIG, fsmn_channels=None)
BLOCKS = "mask_net.mdl.intra_mdl.mossformerM."


@pytest.fixture(scope="module")
def network():
    return oracle.build(CONFIG)


@pytest.fixture(scope="module")
def v1_network():
    return oracle.build(V1)


@pytest.fixture
def state_dict(network):
    return network.state_dict()


def error_of(source, **options) -> str:
    with pytest.raises(ValueError, match=": ") as caught:
        load_torch_checkpoint(source, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


WRITERS = {
    "A": (oracle.write_family_a, dataclasses.replace(CONFIG, sample_rate=16000, input_level_db=-25.0)),
    "B": (oracle.write_family_b, CONFIG),
    "C": (lambda folder, state: oracle.write_family_c(folder, state, CONFIG), CONFIG),
    "C in three": (lambda folder, state: oracle.write_family_c_in_three(folder, state, CONFIG), CONFIG),
    "C WHAMR": (lambda folder, state: oracle.write_family_c(folder, state, WHAMR), WHAMR),
    "D": (oracle.write_family_d, V1),
}


def same(left, right) -> bool:
    return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)


@pytest.mark.medium
@pytest.mark.parametrize("form", WRITERS)
def test_every_family_is_recognised_and_read_completely(form, tmp_path, network, v1_network):
    write, config = WRITERS[form]
    state_dict = (v1_network if config.fsmn_channels is None else network).state_dict()
    write(tmp_path / "official", state_dict)
    checkpoint = load_torch_checkpoint(tmp_path / "official")
    assert checkpoint.family == form[0]
    assert checkpoint.config == config
    # tests/parity checks that the network with these parameters equals the official one.
    arrays = {name: tensor.numpy() for name, tensor in state_dict.items()}
    assert same(checkpoint.parameters, from_official(arrays, "B", {})[1])


@pytest.mark.medium
def test_a_file_a_folder_and_a_state_dict_give_the_same_model(tmp_path, state_dict):
    oracle.write_family_a(tmp_path / "a", state_dict)
    save_file(state_dict | {k: v.clone() for k, v in state_dict.items()}, tmp_path / "alone.safetensors")
    expected = load_torch_checkpoint({"model": state_dict, "optimizer": {}, "epoch": 1, "step": 2})
    for source in ("a", "a/last_best_checkpoint", "a/last_best_checkpoint.pt"):
        checkpoint = load_torch_checkpoint(tmp_path / source)
        assert checkpoint.config == expected.config
        assert same(checkpoint.parameters, expected.parameters)
    for source in (state_dict, tmp_path / "alone.safetensors"):
        checkpoint = load_torch_checkpoint(source)
        assert checkpoint.family == "B"
        assert same(checkpoint.parameters, expected.parameters)


@pytest.mark.parametrize("part", ["encoder", "masknet", "decoder"])
def test_one_part_file_selects_all_three(tmp_path, network, part):
    oracle.write_family_c_in_three(tmp_path / "c", network.state_dict(), CONFIG)
    assert load_torch_checkpoint(tmp_path / "c" / f"{part}.ckpt").config == CONFIG
    (tmp_path / "c" / "decoder.ckpt").unlink()
    with pytest.raises(FileNotFoundError, match=r"decoder\.ckpt: no such file; encoder, masknet, decoder must be"):
        load_torch_checkpoint(tmp_path / "c")


@pytest.mark.parametrize("prefix", ["module.", "model.", "module.model."])
def test_a_prefix_on_all_keys_is_removed(state_dict, prefix):
    wrapped = {prefix + name: value for name, value in state_dict.items()}
    assert same(load_torch_checkpoint(wrapped).parameters, load_torch_checkpoint(state_dict).parameters)


def test_a_safetensors_file_is_read_without_torch(tmp_path, state_dict, monkeypatch):
    save_file({name: value.clone() for name, value in state_dict.items()}, tmp_path / "pytorch_model.safetensors")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert load_torch_checkpoint(tmp_path).config == CONFIG


def test_a_safetensors_file_with_deduplicated_tensors_is_complete(tmp_path, network, state_dict):
    save_module(network, str(tmp_path / "model.safetensors"))
    assert len(load_file(tmp_path / "model.safetensors")) < len(state_dict)
    checkpoint = load_torch_checkpoint(tmp_path)
    assert same(checkpoint.parameters, load_torch_checkpoint(state_dict).parameters)


def test_only_writing_needs_torch(tmp_path, state_dict, monkeypatch):
    oracle.write_family_b(tmp_path / "b", state_dict)
    monkeypatch.setitem(sys.modules, "torch", None)
    checkpoint = load_torch_checkpoint(tmp_path / "b")
    assert checkpoint.config == CONFIG
    with pytest.raises(ValueError, match=r"pip install 'mossformer-jax\[convert\]'"):
        save_torch_checkpoint(tmp_path / "back", checkpoint.config, checkpoint.parameters)


def test_half_precision_checkpoints_become_float32(state_dict):
    for dtype in (torch.float16, torch.bfloat16):
        half = {name: value if "freq" in name else value.to(dtype) for name, value in state_dict.items()}
        parameters = load_torch_checkpoint(half).parameters
        assert {array.dtype for array in parameters.values()} == {np.dtype("float32")}
        np.testing.assert_array_equal(parameters["decoder.kernel"], half["dec.weight"][:, 0].float().numpy())


def test_sample_rate_and_decoding_can_be_overridden(tmp_path, state_dict):
    oracle.write_family_c(tmp_path / "c", state_dict, WHAMR)
    config = load_torch_checkpoint(tmp_path / "c", sample_rate=16000, direct_decoding=False).config
    assert config == dataclasses.replace(CONFIG, sample_rate=16000)
    # The input level of family A does not depend on the sample rate.
    config = load_torch_checkpoint({"model": state_dict}, sample_rate=8000).config
    assert (config.sample_rate, config.input_level_db) == (8000, -25.0)


def test_family_c_without_config_needs_the_decoding_option(tmp_path, state_dict):
    bare = oracle.rename(state_dict, oracle.FAMILY_C_RENAMES)
    assert "--direct-decoding" in error_of(bare)
    assert load_torch_checkpoint(bare, direct_decoding=True).config == WHAMR
    # The official loader stores only the three files, in a folder named after the model.
    for name, config in (("mossformer2-whamr-2spk", WHAMR), ("mossformer2-librimix-2spk", CONFIG)):
        oracle.write_family_c_in_three(tmp_path / name, state_dict, CONFIG)
        (tmp_path / name / "config.json").unlink()
        assert load_torch_checkpoint(tmp_path / name).config == config


def test_one_error_lists_all_bad_tensors_by_official_name(state_dict):
    state_dict = dict(state_dict)
    del state_dict["mask_net.prelu.weight"]
    state_dict["mask_net.surprise"] = torch.zeros(2)
    state_dict["mask_net.norm.weight"] = torch.ones(25)
    state_dict["dec.weight"] = state_dict["dec.weight"] * torch.nan
    state_dict[BLOCKS + "layers.1.rotary_pos_emb.freqs"] = torch.ones(16)
    state_dict[BLOCKS + "fsmn.1.norm1.bias"] = torch.zeros(256, dtype=torch.int32)
    message = error_of(state_dict)
    for part in (
        "missing mask_net.prelu.weight",
        "unknown mask_net.surprise",
        "mask_net.norm.weight has shape (25,), not (24,)",
        "dec.weight is not finite",
        f"{BLOCKS}layers.1.rotary_pos_emb.freqs differs from {BLOCKS}layers.0.rotary_pos_emb.freqs",
        f"{BLOCKS}fsmn.1.norm1.bias has dtype int32, not floating point",
    ):
        assert part in message


@pytest.mark.parametrize(
    "key",
    ["enc.conv1d.weight", "mask_net.conv1d_encoder.weight", "mask_net.conv1d_out.weight"]
    + [BLOCKS + name for name in ("layers.0.to_qk.mdl.1.weight", "fsmn.0.conv1.0.weight")],
)
def test_a_missing_or_flat_tensor_that_determines_sizes_is_an_error(state_dict, key):
    without = {name: value for name, value in state_dict.items() if name != key}
    assert f"missing {key}" in error_of(without)
    assert f"{key} has shape" in error_of(state_dict | {key: state_dict[key].flatten()})


def test_the_error_names_an_entry_that_is_not_a_tensor(state_dict):
    assert "dec.weight is of type list, not a tensor" in error_of(state_dict | {"dec.weight": [1.0]})


def test_the_error_lists_the_keys_of_a_missing_block(state_dict):
    renumbered = {name.replace("layers.1.", "layers.7."): value for name, value in state_dict.items()}
    renumbered = {name.replace("fsmn.1.", "fsmn.7."): value for name, value in renumbered.items()}
    message = error_of(renumbered)
    assert f"missing {BLOCKS}fsmn.1.conv1.0.bias" in message
    assert f"unknown {BLOCKS}fsmn.7.conv1.0.bias" in message


@pytest.mark.parametrize("count", [71, 73])
def test_source_channels_not_a_multiple_of_the_width_are_an_error(state_dict, count):
    message = error_of(state_dict | {"mask_net.conv1d_out.weight": torch.zeros(count, 24, 1)})
    assert f"conv1d_out.weight has shape ({count}, 24, 1)" in message


@pytest.mark.parametrize(
    ("setting", "value"),
    [("masknet_numspks", 2), ("intra_numlayers", 24), ("encoder_out_nchannels", 512), ("masknet_norm", "gln")],
)
def test_a_config_that_contradicts_the_tensors_is_an_error(tmp_path, state_dict, setting, value):
    oracle.write_family_c(tmp_path / "c", state_dict, CONFIG)
    file = tmp_path / "c" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {setting: value}))
    assert f"{setting} is {value!r}, but the tensors belong to a network with" in error_of(tmp_path / "c")


def test_other_files_give_one_line_errors(tmp_path):
    (tmp_path / "noise.pt").write_bytes(b"no checkpoint at all")
    assert "noise.pt: is damaged, or not a PyTorch file" in error_of(tmp_path / "noise.pt")
    torch.save({"a": 1, "b": object}, tmp_path / "objects.pt")
    assert "contains __builtin__.object, which is not unpickled" in error_of(tmp_path / "objects.pt")
    torch.save([torch.zeros(2)], tmp_path / "list.pt")
    assert "contains a list, not a state dict" in error_of(tmp_path / "list.pt")
    torch.save({"weight": torch.zeros(2), 3: 4}, tmp_path / "other.pt")
    assert "not an official MossFormer checkpoint" in error_of(tmp_path / "other.pt")
    assert "contains several checkpoints; give one of" in error_of(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        load_torch_checkpoint(tmp_path / "nothing.pt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="contains no checkpoint"):
        load_torch_checkpoint(tmp_path / "empty")


def test_a_pointer_to_a_missing_file_is_an_error(tmp_path, state_dict):
    oracle.write_family_a(tmp_path / "a", state_dict)
    (tmp_path / "a" / "last_best_checkpoint.pt").rename(tmp_path / "a" / "moved.pt")
    with pytest.raises(
        FileNotFoundError, match=r"refers to 'last_best_checkpoint\.pt', which is not in the same folder"
    ):
        load_torch_checkpoint(tmp_path / "a")


def test_the_error_lists_several_networks(state_dict):
    loaded = {
        "model": state_dict,
        "epoch": 3,
        "best": {"ema": state_dict | {"dec.weight": state_dict["dec.weight"] + 1}},
    }
    assert "contains several networks: model, best.ema; choose one with --network" in error_of(loaded)
    assert "has no network 'x'; give one of model, best.ema" in error_of(loaded, network="x")
    kernel = load_torch_checkpoint(loaded, network="best.ema").parameters["decoder.kernel"]
    np.testing.assert_array_equal(kernel, state_dict["dec.weight"][:, 0] + 1)
    pair = {f"{name}.{key}": value for name in ("online_model", "ema_model") for key, value in state_dict.items()}
    assert "several networks: ema_model, online_model; choose" in error_of(pair)


@pytest.mark.parametrize("family", ["A", "C"])
def test_converting_back_is_bit_for_bit_and_loads_strictly(family, state_dict):
    checkpoint = load_torch_checkpoint(state_dict)
    back = to_torch_state_dict(checkpoint.config, checkpoint.parameters, family)
    expected = state_dict if family == "A" else oracle.rename(state_dict, oracle.FAMILY_C_RENAMES)
    assert back.keys() == expected.keys()
    assert all(torch.equal(back[name], expected[name]) for name in expected)
    if family == "A":
        oracle.build(CONFIG, seed=1).load_state_dict(back, strict=True)


@pytest.mark.parametrize(("family", "config"), [("A", CONFIG), ("C", CONFIG), ("C", WHAMR)])
def test_written_checkpoints_are_read_back_unchanged(family, config, tmp_path, state_dict):
    parameters = load_torch_checkpoint(state_dict).parameters
    save_torch_checkpoint(tmp_path / "back", config, parameters, family)
    checkpoint = load_torch_checkpoint(tmp_path / "back")
    assert checkpoint.family == family
    assert same(checkpoint.parameters, parameters)
    expected = dataclasses.replace(config, sample_rate=16000, input_level_db=-25.0) if family == "A" else config
    assert checkpoint.config == expected


@pytest.mark.parametrize("family", ["A", "C"])
def test_a_model_folder_is_not_overwritten_by_a_checkpoint(family, tmp_path, state_dict):
    parameters = load_torch_checkpoint(state_dict).parameters
    save_model(tmp_path, CONFIG, parameters)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="contains a mossformer-jax model, which would be overwritten"):
        save_torch_checkpoint(tmp_path, CONFIG, parameters, family)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_with_a_preferred_checkpoint_gets_no_second_one(tmp_path, state_dict):
    parameters = load_torch_checkpoint(state_dict).parameters
    save_torch_checkpoint(tmp_path, CONFIG, parameters, "A")
    with pytest.raises(ValueError, match=r"contains a checkpoint of another family \(last_best_checkpoint\)"):
        save_torch_checkpoint(tmp_path, CONFIG, parameters, "C")


def test_a_checkpoint_without_blocks_is_an_error():
    names = {"mask_net.mdl.intra_mdl.mossformerM.x": torch.zeros(1)}
    assert "contains no block (mask_net.mdl.intra_mdl.mossformerM.layers.0.* and so on)" in error_of(names)


def test_the_written_config_of_family_c_equals_the_official_one(tmp_path, state_dict):
    save_torch_checkpoint(tmp_path / "back", WHAMR, load_torch_checkpoint(state_dict).parameters, "C")
    assert json.loads((tmp_path / "back" / "config.json").read_text()) == oracle.family_c_config(WHAMR)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stride", 4),
        ("group_size", 128),
        ("query_key_channels", 64),
        ("fsmn_channels", 128),
        ("fsmn_channels", None),
        ("encoder_channels", 32),
        ("direct_decoding", True),
    ],
)
def test_the_error_names_fields_unsupported_by_the_official_code(field, value):
    config = dataclasses.replace(CONFIG, **{field: value})
    parameters = {name: np.zeros(shape, np.float32) for name, shape in parameter_shapes(config).items()}
    with pytest.raises(ValueError, match=f"family A does not support this model: {field} is {value}, must be"):
        to_torch_state_dict(config, parameters, "A")
    if field == "direct_decoding":
        assert to_torch_state_dict(config, parameters, "C")


def test_parameters_that_the_official_code_does_not_have_are_an_error():
    parameters = {name: np.zeros(shape, np.float32) for name, shape in parameter_shapes(CONFIG).items()}
    parameters["mask_net.blocks.gate.kernel"] = np.zeros(3, np.float32)
    with pytest.raises(ValueError, match=r"there are no parameters mask_net\.blocks\.gate\.kernel in it"):
        to_official(CONFIG, parameters, "A")
