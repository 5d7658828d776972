"""JAX, ONNX in onnxruntime and StableHLO compute the same for every preset, length and batch."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
from flax import nnx

from mossformer_jax.audio import read_audio
from mossformer_jax.cli import main
from mossformer_jax.export.loading import load_exported
from mossformer_jax.export.onnx_model import export_onnx
from mossformer_jax.export.stablehlo import export_stablehlo
from mossformer_jax.model import PRESETS, ModelConfig, MossFormer2
from mossformer_jax.weights import build_network, load_parameters
from mossformer_jax.weights.parameters import parameter_shapes
from tests.conftest import FAST_COMPILATION, REPOSITORY

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

BOUND = 1e-5  # relative, in float32
# One padded batch, so that JAX compiles once per preset: a single kernel, an odd length, three rows of 3 s.
LENGTHS = np.array([16, 1001, 24001, 24001, 24001])

# A fresh process with JAX only.
RUN_ELSEWHERE = """
import sys
import jax, numpy as np
from jax import export
from safetensors.numpy import load_file
for folder in sys.argv[1:]:
    call = jax.jit(export.deserialize(bytearray(open(f"{folder}/model.stablehlo", "rb").read())).call)
    weights = load_file(f"{folder}/model.safetensors")
    batch = np.load(f"{folder}/batch.npz")
    np.save(f"{folder}/sources.npy", np.asarray(call(weights, batch["mixtures"], batch["lengths"])))
assert not {"flax", "mossformer_jax"} & set(sys.modules)
"""


def narrow(preset: str) -> ModelConfig:
    """A preset with two narrow blocks. The outputs of v1 are scaled."""
    gains = (1.5, 0.5) if preset.startswith("mossformer-") else None
    config = ModelConfig.preset(preset, encoder_channels=24, model_channels=16, num_blocks=2, query_key_channels=40)
    fsmn = None if config.fsmn_channels is None else 8
    return dataclasses.replace(config, group_size=64, fsmn_channels=fsmn, output_gains=gains)


def random_parameters(config: ModelConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights in which no part is at its initial value; frequency tables as they are."""
    rng = np.random.default_rng(seed)
    parameters = {}
    for name, shape in parameter_shapes(config).items():
        value = rng.normal(0, 0.3, shape)
        if name.endswith("scale"):
            value = 1 + value
        if name.endswith("frequencies"):
            value = 10000.0 ** -(np.arange(shape[0]) / shape[0])
        parameters[name] = np.asarray(value, np.float32)
    return parameters


def distinct() -> list[str]:
    """Presets whose narrow versions differ in structure: names of one size are compared once."""
    seen: dict[str, str] = {}
    for name in PRESETS:
        config = dataclasses.replace(narrow(name), sample_rate=8000, input_level_db=None)
        seen.setdefault(repr(config), name)
    return list(seen.values())


def mixtures() -> np.ndarray:
    return np.random.default_rng(1).normal(0, 0.1, (len(LENGTHS), LENGTHS.max())).astype(np.float32)


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def relative_error(ours: np.ndarray, expected: np.ndarray) -> float:
    assert ours.shape == expected.shape
    return float(np.linalg.norm(ours - expected) / np.linalg.norm(expected))


def separate(network: MossFormer2, mixture_bt: np.ndarray, lengths_b: np.ndarray | None = None) -> np.ndarray:
    return np.asarray(nnx.jit(lambda network, *inputs: network(*inputs))(network, mixture_bt, lengths_b))


@pytest.fixture(scope="session")
def separated() -> dict[str, np.ndarray]:
    """Outputs of JAX by preset."""
    configs = {preset: narrow(preset) for preset in distinct()}
    networks = {preset: build_network(config, random_parameters(config)) for preset, config in configs.items()}
    return {preset: separate(network, mixtures(), LENGTHS) for preset, network in networks.items()}


@pytest.mark.parametrize("preset", PRESETS)
def test_the_metadata_state_rate_and_level(tmp_path, preset):
    config = narrow(preset)
    export_onnx(tmp_path / "model.onnx", config, random_parameters(config))
    properties = session(tmp_path / "model.onnx").get_modelmeta().custom_metadata_map
    level = "none" if config.input_level_db is None else str(config.input_level_db)
    assert properties["sample_rate"] == str(config.sample_rate)
    assert properties["input_level_db"] == level


@pytest.mark.slow
@pytest.mark.parametrize("preset", distinct())
def test_onnx_computes_what_jax_computes(tmp_path, separated, preset):
    config = narrow(preset)
    export_onnx(tmp_path / "model.onnx", config, random_parameters(config))
    runtime = session(tmp_path / "model.onnx")
    for rows in (slice(0, 1), slice(1, 2), slice(2, 5)):
        length = LENGTHS[rows][0]
        (ours,) = runtime.run(None, {"mixture": mixtures()[rows, :length]})
        assert relative_error(ours, separated[preset][rows, :, :length]) < BOUND, length


@pytest.mark.medium
@pytest.mark.parametrize("float16", [False, True])
def test_onnx_averages_shifts_as_jax_does(tmp_path, float16):
    config = dataclasses.replace(narrow("mossformer2-3spk"), shifts=2)
    parameters = {
        name: values.astype(np.float16).astype(np.float32) for name, values in random_parameters(config).items()
    }
    parameters |= {name: values for name, values in random_parameters(config).items() if name.endswith("frequencies")}
    export_onnx(tmp_path / "one.onnx", dataclasses.replace(config, shifts=1), parameters, float16=float16)
    export_onnx(tmp_path / "two.onnx", config, parameters, float16=float16)
    mixture_bt = mixtures()[2:, :9001]
    (ours,) = session(tmp_path / "two.onnx").run(None, {"mixture": mixture_bt})
    assert relative_error(ours, separate(build_network(config, parameters), mixture_bt)) < BOUND
    # The copies share their weights.
    one, two = (
        sum(len(constant.raw_data) for constant in onnx.load(tmp_path / f"{name}.onnx").graph.initializer)
        for name in ("one", "two")
    )
    assert two < 1.1 * one


def test_a_parameter_that_the_graph_does_not_describe_is_an_error(tmp_path):
    config = narrow("mossformer2-2spk")
    parameters = {**random_parameters(config), "mask_net.blocks.gate.kernel": np.zeros((2, 3), np.float32)}
    with pytest.raises(ValueError, match=r"does not describe the parameters mask_net\.blocks\.gate\.kernel"):
        export_onnx(tmp_path / "model.onnx", config, parameters)


@pytest.mark.slow
def test_a_minute_of_audio_in_onnx_computes_what_jax_computes(tmp_path):
    # With trained weights: random ones amplify rounding at this length, in JAX as in ONNX.
    config, parameters = load_parameters("default")
    export_onnx(tmp_path / "model.onnx", config, parameters)
    minute = np.resize(read_audio(REPOSITORY / "examples" / "mixture.wav")[0], (1, 480_001)).astype(np.float32)
    (ours,) = session(tmp_path / "model.onnx").run(None, {"mixture": minute})
    assert relative_error(ours, separate(build_network(config, parameters), minute)) < BOUND


def test_float16_storage_is_smaller_and_close(tmp_path):
    config = dataclasses.replace(narrow("mossformer2-2spk"), model_channels=64)
    parameters = random_parameters(config)
    export_onnx(tmp_path / "single.onnx", config, parameters)
    export_onnx(tmp_path / "half.onnx", config, parameters, float16=True)
    assert (tmp_path / "half.onnx").stat().st_size < 0.9 * (tmp_path / "single.onnx").stat().st_size
    signal = mixtures()[1:2, :1001]
    exact, stored = (session(tmp_path / f"{n}.onnx").run(None, {"mixture": signal})[0] for n in ("single", "half"))
    assert 0 < relative_error(stored, exact) < 1e-2  # a weight of float16 is off by up to 5e-4


def test_the_command_writes_onnx_and_replaces_nothing(tmp_path, tiny_model_folder, capsys):
    command = ["export", str(tiny_model_folder), str(tmp_path / "model.onnx")]
    assert main(command) == 0
    assert "wrote" in capsys.readouterr().out
    assert main(command) == 1
    assert "add --overwrite" in capsys.readouterr().err
    assert main([*command, "--overwrite", "--float16"]) == 0


def test_the_command_exports_the_shifts_that_it_is_given(tmp_path, tiny_model_folder):
    config, parameters = load_parameters(tiny_model_folder)
    for shifts in (1, 2):
        assert main(["export", str(tiny_model_folder), str(tmp_path / f"{shifts}.onnx"), "--shifts", str(shifts)]) == 0
        export_onnx(tmp_path / "expected.onnx", config.with_shifts(shifts), parameters)
        assert (tmp_path / f"{shifts}.onnx").read_bytes() == (tmp_path / "expected.onnx").read_bytes()
    assert (tmp_path / "1.onnx").read_bytes() != (tmp_path / "2.onnx").read_bytes()


@pytest.mark.slow
@pytest.mark.own_checks  # symbolic sizes are not ints, so annotations are not checked
def test_stablehlo_computes_the_same_without_this_package(tmp_path, separated):
    folders = {}
    for preset in distinct():
        folders[preset] = tmp_path / preset
        folders[preset].mkdir()
        config = narrow(preset)
        export_stablehlo(folders[preset] / "model.stablehlo", config, random_parameters(config))
        np.savez(folders[preset] / "batch.npz", mixtures=mixtures(), lengths=LENGTHS.astype(np.int32))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": FAST_COMPILATION}
    command = [sys.executable, "-c", RUN_ELSEWHERE, *map(str, folders.values())]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    for preset, folder in folders.items():
        assert relative_error(np.load(folder / "sources.npy"), separated[preset]) < BOUND, preset
    here = load_exported(folders["mossformer2-2spk"] / "model.stablehlo")
    assert relative_error(np.asarray(here(mixtures(), LENGTHS)), separated["mossformer2-2spk"]) < BOUND


def test_a_damaged_program_is_an_error_in_one_line(tmp_path):
    (tmp_path / "model.stablehlo").write_bytes(b"no program")
    with pytest.raises(ValueError, match="is not an exported program"):
        load_exported(tmp_path / "model.stablehlo")
