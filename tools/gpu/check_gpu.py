"""Compares an accelerator's results with the CPU's, and with the official PyTorch code on the same accelerator.

    python .gpu/kit/check_gpu.py [--small]

Prints relative L2 errors and writes each of them to OUT/check.json at once. --small takes a narrow network of two
blocks instead of the published size, for testing this script. The project's root must be in PYTHONPATH.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mossformer_jax import load_model, read_audio
from mossformer_jax.audio import to_mono
from mossformer_jax.model import ModelConfig
from mossformer_jax.model.levels import level_gain
from mossformer_jax.scoring import pit_si_sdr
from mossformer_jax.weights import load_parameters
from mossformer_jax.weights.loaded import LoadedModel

OUT = Path(os.environ.get("OUT", "/tmp/out"))
found: dict[str, object] = {}


def record(name: str, value: object) -> None:
    """Prints a figure and adds it to OUT/check.json."""
    found[name] = value
    print(f"{name:<66} {value:.3e}" if isinstance(value, float) else f"{name:<66} {value}", flush=True)
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "check.json").write_text(json.dumps(found, indent=1) + "\n")


def error(ours: Any, truth: Any) -> float:
    """Relative L2 error."""
    truth = np.asarray(truth, np.float64)
    return float(np.linalg.norm(np.asarray(ours, np.float64) - truth) / np.linalg.norm(truth))


def default_model() -> None:
    """Compares the shipped model on the example mixture between the default device and the CPU."""
    folder = Path("examples", "synthetic")
    waveform, _ = read_audio(folder / "mixture.wav")
    mixture = np.asarray(to_mono(waveform), np.float32)[None]
    waveforms = [to_mono(read_audio(folder / f"source{number}.wav")[0]) for number in (1, 2)]
    sources = np.stack([np.asarray(waveform, np.float32) for waveform in waveforms])[None]
    lengths = np.array([mixture.shape[1]], np.int32)
    config, parameters = load_parameters("default")
    results = {}
    for device, precision, dtype in (
        ("cpu", "highest", "float32"),
        ("cpu", None, "float32"),
        ("default", "highest", "float32"),
        ("default", None, "float32"),
        ("default", None, "bfloat16"),
    ):
        chosen = jax.devices("cpu")[0] if device == "cpu" else jax.devices()[0]
        exact = jax.default_matmul_precision(precision) if precision else contextlib.nullcontext()
        with jax.default_device(chosen), exact:
            model = LoadedModel(dataclasses.replace(config, dtype=dtype), parameters)
            gain = np.asarray(level_gain(jnp.asarray(mixture), jnp.asarray(lengths), config.input_level_db))
            began = time.monotonic()
            estimates = np.asarray(model(mixture * gain, lengths))
            seconds = time.monotonic() - began
            score = float(np.mean(pit_si_sdr(estimates, sources, lengths)[0]))
        name = f"default model, {device} device, {precision or 'default'} precision, {dtype}"
        results[device, precision, dtype] = estimates
        record(f"{name}: SI-SDR (dB)", f"{score:.4f}, first call {seconds:.1f} s")
    truth = results["cpu", "highest", "float32"]
    for key, estimates in results.items():
        if key[0] == "default":
            record(
                f"default model, {key[1] or 'default'} precision, {key[2]}: error against cpu", error(estimates, truth)
            )
    # Padding must not matter, and a batch must give the same results as its rows.
    with jax.default_matmul_precision("highest"):
        model = load_model("default")
        padded = np.full((2, mixture.shape[1] + 4000), np.nan, np.float32)
        padded[0, : mixture.shape[1]], padded[1, :20000] = mixture[0], mixture[0, :20000]
        together = np.asarray(model(padded, np.array([mixture.shape[1], 20000], np.int32)))
        alone = np.asarray(model(mixture)), np.asarray(model(mixture[:, :20000]))
    for row, single in enumerate(alone):
        difference = error(together[row : row + 1, :, : single.shape[2]], single)
        record(f"default model, row {row} of a padded batch: error against the row by itself", difference)


def official(small: bool) -> None:
    """Compares our network and the official code, with the same weights, with the official code in float64."""
    import torch
    from flax import nnx

    from mossformer_jax.weights import build_network, flatten
    from tests.parity import harness, oracle

    torch.set_num_threads(os.cpu_count() or 1)
    place = "cuda" if torch.cuda.is_available() else "cpu"
    config = harness.small("mossformer2-2spk", "float32") if small else ModelConfig()
    mixture = harness.mixtures(1, 4003 if small else 16000).astype(np.float32)

    def separated(dtype: torch.dtype, tf32: bool = False, autocast: bool = False) -> np.ndarray:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        network = oracle.build(config, 0, dtype).to(place)
        mixed = torch.autocast(place, torch.bfloat16) if autocast else contextlib.nullcontext()
        with torch.inference_mode(), mixed:
            sources = network(torch.from_numpy(mixture).to(place, dtype))
        return np.stack([source.double().cpu().numpy() for source in sources], 1)

    truth = separated(torch.float64)
    record("official, float32", error(separated(torch.float32), truth))
    if place == "cuda":
        record("official, TF32", error(separated(torch.float32, tf32=True), truth))
    record("official, bfloat16 autocast", error(separated(torch.float32, tf32=True, autocast=True), truth))
    parameters = flatten(nnx.state(build_network(config, harness.to_ours(oracle.build(config).state_dict(), config))))
    for precision, dtype in (("highest", "float32"), (None, "float32"), (None, "bfloat16")):
        exact = jax.default_matmul_precision(precision) if precision else contextlib.nullcontext()
        with exact:
            ours = LoadedModel(dataclasses.replace(config, dtype=dtype), parameters)(mixture)
        record(f"ours, {precision or 'default'} precision, {dtype}", error(ours, truth))
    with jax.enable_x64(True):
        ours = LoadedModel(dataclasses.replace(config, dtype="float64"), parameters)(mixture.astype(np.float64))
        record("ours, float64", error(ours, truth))


def main() -> int:
    """Runs both comparisons; the exit status is 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="compare a narrow network of two blocks")
    flags = parser.parse_args()
    record("device", f"{jax.devices()[0].device_kind}, {jax.default_backend()}, jax {jax.__version__}")
    failed = 0
    for part in (default_model, lambda: official(flags.small)):
        try:
            part()
        except Exception:
            traceback.print_exc()
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
