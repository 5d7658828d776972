"""The stored format: exact, strict and atomic, with clear errors."""

import json
import os
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from mossformer_jax.weights import (
    build_network,
    flatten,
    load_model,
    load_parameters,
    parameter_shapes,
    read_config,
    save_model,
    store,
)

FREQUENCIES = {"mask_net.positions.frequencies", "mask_net.rotary.frequencies"}


@pytest.fixture(scope="module")
def parameters(tiny_model_folder):
    return load_parameters(tiny_model_folder)[1]


@pytest.fixture
def folder(tmp_path, tiny_config, parameters):
    save_model(tmp_path / "model", tiny_config, parameters)
    return tmp_path / "model"


def test_a_saved_model_is_loaded_bit_for_bit(folder, tiny_config, parameters):
    config, loaded = load_parameters(folder)
    assert config == tiny_config
    assert loaded.keys() == parameters.keys()
    for name, array in parameters.items():
        np.testing.assert_array_equal(loaded[name], array, strict=True)


def test_state_nested_and_dotted_parameters_give_the_same_file(tmp_path, tiny_config, parameters):
    state = nnx.state(build_network(tiny_config, parameters))
    for name, form in (("state", state), ("nested", nnx.to_pure_dict(state)), ("dotted", flatten(state))):
        save_model(tmp_path / name, tiny_config, form)
    files = [(tmp_path / name / store.WEIGHTS_FILE).read_bytes() for name in ("state", "nested", "dotted")]
    assert files[0] == files[1] == files[2]


def test_float16_storage_halves_the_file_and_keeps_the_frequency_tables_exact(
    tmp_path, folder, tiny_config, parameters
):
    save_model(tmp_path / "half", tiny_config, parameters, storage="float16")
    _, loaded = load_parameters(tmp_path / "half")
    for name, array in parameters.items():
        exact = array if name in FREQUENCIES else array.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(loaded[name], exact, strict=True)
    stored = load_file(tmp_path / "half" / store.WEIGHTS_FILE)
    assert {name for name, array in stored.items() if array.dtype == np.float32} == FREQUENCIES


def test_the_error_names_parameters_outside_float16(tmp_path, tiny_config, parameters):
    big = parameters | {"mask_net.prelu.slope": np.float32(1e5)}
    with pytest.raises(ValueError, match=r"outside the range of float16: mask_net\.prelu\.slope; use float32$"):
        save_model(tmp_path / "half", tiny_config, big, storage="float16")
    assert not (tmp_path / "half").exists()


@pytest.mark.medium
def test_a_loaded_model_separates_like_the_saved_network(tiny_model_folder, tiny_config, parameters, rng):
    network, loaded = build_network(tiny_config, parameters), load_model(tiny_model_folder)
    mixture_bt = rng.standard_normal((2, 800)).astype(np.float32)
    lengths_b = np.array([800, 500])
    expected = jax.jit(lambda mixture_bt, lengths_b: network(mixture_bt, lengths_b))(mixture_bt, lengths_b)
    # XLA folds constant weights, which changes the rounding by 1e-7 for signals of about 0.1.
    np.testing.assert_allclose(loaded(mixture_bt, lengths_b), expected, atol=1e-6)
    assert loaded.config == tiny_config
    counted = {name: shape for name, shape in parameter_shapes(tiny_config).items() if name not in FREQUENCIES}
    assert loaded.num_parameters == sum(int(np.prod(shape)) for shape in counted.values())


def test_lengths_beyond_the_signal_are_an_error(tiny_model_folder):
    with pytest.raises(ValueError, match="lengths are"):
        load_model(tiny_model_folder)(np.zeros((1, 800), np.float32), np.array([900]))


def test_one_error_lists_missing_unknown_and_misshaped_tensors(folder):
    file = folder / store.WEIGHTS_FILE
    tensors = load_file(file)
    del tensors["encoder.kernel"], tensors["mask_net.output.bias"]
    tensors["mask_net.extra"] = np.zeros(3, np.float32)
    tensors["mask_net.stack_norm.scale"] = np.ones(9, np.float32)
    tensors["mask_net.prelu.slope"] = np.array(np.nan, np.float32)
    save_file(tensors, file)
    with pytest.raises(ValueError, match="does not match") as caught:
        load_parameters(folder)
    message = str(caught.value)
    assert str(file) in message
    assert "missing encoder.kernel, mask_net.output.bias" in message
    assert "unknown mask_net.extra" in message
    assert "mask_net.stack_norm.scale has shape (9,), not (8,)" in message
    assert "mask_net.prelu.slope is not finite" in message
    assert "\n" not in message


def test_the_error_for_a_wrong_dtype_lists_the_allowed_ones(folder):
    file = folder / store.WEIGHTS_FILE
    save_file(load_file(file) | {"mask_net.stack_norm.bias": np.zeros(8, np.int8)}, file)
    with pytest.raises(ValueError, match=r"mask_net\.stack_norm\.bias is stored as int8, not float32 or float16"):
        load_parameters(folder)


@pytest.mark.parametrize("kept", [0, 5, 1000, -1])
def test_the_error_names_a_truncated_file(folder, kept):
    file = folder / store.WEIGHTS_FILE
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"model\.safetensors: is damaged") as caught:
        load_model(folder)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_saving_replaces_an_old_model_and_keeps_other_files(folder, tiny_config, parameters):
    (folder / "README.md").write_text("a model card")
    changed = parameters | {"mask_net.prelu.slope": np.float32(0.5)}
    save_model(folder, tiny_config, changed)
    assert load_parameters(folder)[1]["mask_net.prelu.slope"] == 0.5
    assert sorted(file.name for file in folder.iterdir()) == ["README.md", store.CONFIG_FILE, store.WEIGHTS_FILE]


def test_a_failed_write_keeps_the_old_model_and_leaves_no_other_files(folder, tiny_config, parameters, monkeypatch):
    def full_disk(descriptor):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_model(folder, tiny_config, parameters | {"mask_net.prelu.slope": np.float32(0.5)})
    monkeypatch.undo()
    assert load_parameters(folder)[1]["mask_net.prelu.slope"] == 0.25
    assert len(list(folder.iterdir())) == 2


def test_the_error_for_an_incomplete_model_names_the_parameters(tmp_path, tiny_config, parameters):
    incomplete = {name: array for name, array in parameters.items() if name != "decoder.kernel"}
    with pytest.raises(ValueError, match=r"missing decoder\.kernel"):
        save_model(tmp_path / "model", tiny_config, incomplete)
    assert not (tmp_path / "model").exists()


def test_other_folders_are_neither_loaded_nor_overwritten(tmp_path, tiny_config, parameters):
    (tmp_path / "config.json").write_text('{"model_type": "mossformer2"}')
    with pytest.raises(ValueError, match=r"not a mossformer-jax model folder.*mossformer-jax convert --input"):
        load_model(tmp_path)
    with pytest.raises(ValueError, match="give another folder"):
        save_model(tmp_path, tiny_config, parameters)
    assert json.loads((tmp_path / "config.json").read_text()) == {"model_type": "mossformer2"}


def test_the_error_for_a_checkpoint_file_explains_conversion(tmp_path):
    (tmp_path / "last_best_checkpoint.pt").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"mossformer-jax convert --input .*last_best_checkpoint\.pt"):
        load_model(tmp_path / "last_best_checkpoint.pt")


def test_a_missing_model_is_a_file_not_found_error(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="no such model"):
        load_model(tmp_path / "nothing")
    monkeypatch.setattr(store, "DEFAULT_MODEL", tmp_path / "assets")
    with pytest.raises(FileNotFoundError, match="default model is not part of this installation"):
        load_model("default")


def test_the_error_names_a_missing_weights_file(folder):
    (folder / store.WEIGHTS_FILE).unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors: no such file"):
        load_model(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "has format_version=2, but this version reads 1; update mossformer-jax"),
        ({"model": {"num_speakers": 2}}, "unknown model config field 'num_speakers'; did you mean"),
        ({"model": 3}, '"model" must be an object'),
    ],
)
def test_the_error_for_an_invalid_config_names_the_file_and_the_field(folder, change, message):
    file = folder / store.CONFIG_FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ValueError, match=message) as caught:
        read_config(folder)
    assert str(file) in str(caught.value)


def test_a_training_run_is_loaded_with_its_best_weights(tiny_model_folder, tmp_path):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="is a training run without best/ weights"):
        load_parameters(run)
    shutil.copytree(tiny_model_folder, run / "last")
    with pytest.raises(FileNotFoundError, match=rf"first validation writes; give {run / 'last'}"):
        load_parameters(run)
    shutil.copytree(tiny_model_folder, run / "best")
    assert load_parameters(run)[0] == load_parameters(tiny_model_folder)[0]


def test_a_path_named_default_is_a_folder_and_not_the_default_model(tmp_path, monkeypatch, tiny_model_folder):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_model_folder, "default")
    assert load_parameters(Path("default"))[0] == load_parameters(tiny_model_folder)[0]
    assert load_parameters("default")[0] != load_parameters(Path("default"))[0]
