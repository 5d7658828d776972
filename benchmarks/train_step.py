"""How long does a step of training take, and how much memory, beside the official PyTorch model?

Forward and backward pass, clipping and Adam on one mixture of 2 s, dropout 0.1, the 55.7M model. Every way is a process
of its own, since the peak of its resident memory is one of the figures; they live side by side and take their steps in
turns, and the ratios are medians over the rounds, so that what else the machine does falls on all of them. Where it
does much, the processor time is the steadier figure. Needs the official code (see docs/parity.md).

    python benchmarks/train_step.py
    python benchmarks/train_step.py --ways pytorch products --blocks 4 --rounds 3
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
WAYS = ("pytorch", "none", "products", "blocks")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--ways", nargs="+", choices=WAYS, default=WAYS, help="ours by rematerialisation (default: all)"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--blocks", type=int, default=24)
    parser.add_argument("--dtype", default="float32", help="compute dtype of ours")
    parser.add_argument("--measure", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options)
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    arguments = [f"--{name}={getattr(options, name)}" for name in ("seconds", "blocks", "dtype")]
    command = [sys.executable, "-m", "benchmarks.train_step", *arguments, "--measure"]
    # Started one after the other: a process compiles before it says its first line.
    children, compiled, rounds = {}, {}, {way: [] for way in options.ways}
    for way in options.ways:
        children[way] = subprocess.Popen(
            [*command, way], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        compiled[way] = json.loads(children[way].stdout.readline())
    for _ in range(options.rounds):
        for way, child in children.items():
            print("step", file=child.stdin, flush=True)
            rounds[way].append(json.loads(child.stdout.readline()))
    for child in children.values():
        child.communicate()

    peer = options.ways[0]
    columns = ("compile (s)", "step (s)", f"/ {peer}", "processor (s)", f"/ {peer}", "peak memory (MB)", f"/ {peer}")
    print(f"{'way':<10}" + "".join(f"{column:>18}" for column in columns))
    for way, steps in rounds.items():
        row = [compiled[way]]
        for figure in ("wall", "processor"):
            row.append(statistics.median(step[figure] for step in steps))
            row.append(statistics.median(a[figure] / b[figure] for a, b in zip(steps, rounds[peer], strict=True)))
        row += [steps[-1]["peak"], steps[-1]["peak"] / rounds[peer][-1]["peak"]]
        digits = (1, 2, 2, 2, 2, 0, 2)
        print(f"{way:<10}" + "".join(f"{value:>18.{places}f}" for value, places in zip(row, digits, strict=True)))


def measure(options: argparse.Namespace) -> None:
    """Makes a step a line of the standard input, and says as JSON what it took."""
    sources = 0.1 * np.random.default_rng(0).standard_normal((1, 2, int(8000 * options.seconds))).astype(np.float32)
    make = pytorch_step if options.measure == "pytorch" else jax_step
    compile_seconds, step = make(options, sources)
    print(json.dumps(compile_seconds), flush=True)
    step()  # the first one allocates
    for _ in sys.stdin:
        wall, processor = time.perf_counter(), time.process_time()
        step()
        took = {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(took | {"peak": peak}), flush=True)


def jax_step(options: argparse.Namespace, sources: np.ndarray) -> tuple[float, Callable[[], None]]:
    import jax

    from mossformer_jax.model import ModelConfig
    from mossformer_jax.sharding import make_mesh, place_rows
    from mossformer_jax.training.recipe import Recipe
    from mossformer_jax.training.state import begin
    from mossformer_jax.training.step import make_train_step

    config = ModelConfig(num_blocks=options.blocks, dtype=options.dtype, remat=options.measure)
    recipe, mesh = Recipe(), make_mesh()
    lengths = np.full(len(sources), sources.shape[-1], np.int32)
    batch = place_rows({"mixture": sources.sum(axis=1), "sources": sources, "lengths": lengths}, mesh)
    state = begin(config, recipe, mesh)
    began = time.perf_counter()
    compiled = make_train_step(config, recipe, 1000, mesh).lower(state, batch).compile()
    compile_seconds = time.perf_counter() - began

    def step() -> None:
        nonlocal state
        state, metrics = compiled(state, batch)
        jax.block_until_ready((state, metrics))

    return compile_seconds, step


def pytorch_step(options: argparse.Namespace, sources: np.ndarray) -> tuple[float, Callable[[], None]]:
    import torch

    from mossformer_jax.model import ModelConfig
    from tests.parity import harness, oracle

    network = oracle.build(ModelConfig(num_blocks=options.blocks)).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=15e-5)
    references = torch.from_numpy(sources)

    def step() -> None:
        optimizer.zero_grad()
        harness.official_pit_loss(network(references.sum(1)), references).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()

    return 0.0, step


if __name__ == "__main__":
    main()
