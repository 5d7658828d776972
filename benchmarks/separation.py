"""Measures the time to separate, compared with the official PyTorch model, eager and compiled.

The 55.7M model in float32 with random weights separates noise. Each implementation has a separate process; they run
alternately, and the ratios are medians over the rounds. The floor is the time of the matrix products alone, at the
FLOP/s that this machine reaches in one large product. Needs the official code (see docs/parity.md); torch.compile needs
a C++ compiler.

    python -m benchmarks.separation
    python -m benchmarks.separation --seconds 4 --batches 1 --ways pytorch ours --rounds 7
    python -m benchmarks.separation --start
    python -m benchmarks.separation --profile
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np

from benchmarks import side_by_side

WAYS = ("pytorch", "compiled", "ours")
# Multiply-adds of the 55.7M model per frame: each weight once, and the products of both attentions.
PRODUCTS_PER_FRAME = 55.7e6 + 24 * (256 * 128 + 256 * 2048 + 2 * 128 * 2048)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--seconds", nargs="+", type=float, default=[1.0, 4.0, 8.0])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--start", action="store_true", help="time to the first output of a new process")
    parser.add_argument("--profile", action="store_true", help="our time by layer")
    parser.add_argument("--dtype", default="float32", help="our compute dtype")
    parser.add_argument("--measure", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--first-output", metavar="MODEL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        prepare = ours if options.measure == "ours" else pytorch
        side_by_side.serve(*prepare(options, noise(options.batches[0], options.seconds[0])))
    elif options.first_output:
        first_output(options.first_output)
    elif options.start:
        measure_start()
    elif options.profile:
        profile(options)
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    rate = product_rate()
    print(f"one large matrix product in float32: {rate / 1e9:.0f} GFLOP/s")
    columns = [("prepare (s)", 1), ("run (s)", 2), (f"/ {options.ways[0]}", 2), ("share of floor", 2), ("peak (MB)", 0)]
    for batch in options.batches:
        for seconds in options.seconds:
            arguments = [f"--seconds={seconds}", f"--batches={batch}", f"--dtype={options.dtype}"]
            prepared, runs = side_by_side.compare("benchmarks.separation", options.ways, arguments, options.rounds)
            floor = 2 * PRODUCTS_PER_FRAME * batch * 1000 * seconds / rate
            print(f"\nbatch {batch}, {seconds:g} s each")
            rows = {}
            for way in options.ways:
                took = side_by_side.median(runs[way], "wall")
                ratio = side_by_side.median_ratio(runs[way], runs[options.ways[0]], "wall")
                rows[way] = [prepared[way]["seconds"], took, ratio, floor / took, runs[way][-1]["peak"]]
            side_by_side.print_table(columns, rows)


def noise(batch: int, seconds: float) -> np.ndarray:
    return 0.1 * np.random.default_rng(0).standard_normal((batch, round(8000 * seconds))).astype(np.float32)


def product_rate() -> float:
    """FLOP/s of a matrix product of the largest layer's size; the best of 20 runs."""
    import jax

    weights, features = np.ones((512, 2048), np.float32), np.ones((512, 4000), np.float32)
    multiply = jax.jit(lambda a, b: a.T @ b)
    took = []
    for _ in range(20):
        began = time.perf_counter()
        multiply(weights, features).block_until_ready()
        took.append(time.perf_counter() - began)
    return 2 * weights.size * features.shape[1] / min(took)


def pytorch(options: argparse.Namespace, mixture: np.ndarray) -> tuple[dict, Callable[[], object]]:
    import torch

    from mossformer_jax.model import ModelConfig

    network = side_by_side.official_network(ModelConfig()).eval()
    waveform = torch.from_numpy(mixture)

    def run() -> None:
        with torch.inference_mode():
            network(waveform)

    began = time.perf_counter()
    if options.measure == "compiled":
        network = torch.compile(network)
        run()
    return {"seconds": time.perf_counter() - began}, run


def ours(options: argparse.Namespace, mixture: np.ndarray) -> tuple[dict, Callable[[], object]]:
    from flax import nnx

    from mossformer_jax.model import ModelConfig, MossFormer2
    from mossformer_jax.weights import flatten
    from mossformer_jax.weights.loaded import LoadedModel

    config = ModelConfig(dtype=options.dtype)
    model = LoadedModel(config, flatten(nnx.state(MossFormer2(config, rngs=nnx.Rngs(0)))))
    began = time.perf_counter()
    program = model.compile(*mixture.shape)
    seconds = time.perf_counter() - began
    lengths = np.full(len(mixture), mixture.shape[1], np.int32)
    return {"seconds": seconds}, lambda: np.asarray(program(mixture, lengths))


def measure_start() -> None:
    """Stores a model and separates 1 s of audio with it in new processes; only the first has no compilation cache."""
    from flax import nnx

    from mossformer_jax.model import ModelConfig, MossFormer2
    from mossformer_jax.weights import save_model

    with tempfile.TemporaryDirectory() as folder:
        config, model = ModelConfig(), os.path.join(folder, "model")
        save_model(model, config, nnx.state(MossFormer2(config, rngs=nnx.Rngs(0))))
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": os.path.join(folder, "compiled")}
        environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        command = [sys.executable, "-m", "benchmarks.separation", "--first-output", model]
        for name in ("without a cache", "with a cache", "with a cache"):
            began = time.perf_counter()
            done = subprocess.run(command, cwd=side_by_side.ROOT, env=environment, check=True, capture_output=True)
            print(f"{name}: {time.perf_counter() - began:.1f} s in total, {done.stdout.decode().strip()}", flush=True)


def first_output(model: str) -> None:
    """Loads a model, separates 1 s of audio and prints the times."""
    from mossformer_jax import Separator

    began = time.perf_counter()
    separator = Separator.from_pretrained(model)
    loaded = time.perf_counter() - began
    timings = separator(noise(1, 1.0)[0], 8000).timings
    print(f"loading {loaded:.1f} s, compiling {timings.compile_seconds:.1f} s, separating {timings.run_seconds:.1f} s")


def profile(options: argparse.Namespace) -> None:
    """Prints the time of every layer, summed over the blocks, from XLA's profiler."""
    import jax
    from flax import nnx

    from benchmarks.by_layer import time_by_layer
    from mossformer_jax.model import ModelConfig, MossFormer2

    mixture = noise(options.batches[0], 4.0)
    graphdef, state = nnx.split(MossFormer2(ModelConfig(dtype=options.dtype), rngs=nnx.Rngs(0)))
    program = jax.jit(lambda state, mixture: nnx.merge(graphdef, state)(mixture)).lower(state, mixture).compile()
    run = lambda: np.asarray(program(state, mixture))  # noqa: E731
    run()
    by_layer = time_by_layer(program.as_text(), run)
    total = sum(by_layer.values())
    for layer, seconds in sorted(by_layer.items(), key=lambda item: -item[1]):
        print(f"{layer:<40}{seconds:>10.3f} s{seconds / total:>8.1%}")


if __name__ == "__main__":
    main()
