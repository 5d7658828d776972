"""Measures the time and memory of a training step, compared with the official PyTorch model.

A step is forward and backward pass, gradient clipping and Adam on one mixture of 2 s, with dropout 0.1 and the 55.7M
model. Each implementation has a separate process, because its peak resident memory is measured. They take steps
alternately, so that other load on the machine affects all of them alike, and the ratios are medians over the rounds.
With much other load, the processor time is more stable than the wall time. Needs the official code (see
docs/parity.md).

    python -m benchmarks.train_step
    python -m benchmarks.train_step --ways pytorch products --blocks 4 --rounds 3
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from benchmarks import side_by_side

WAYS = ("pytorch", "none", "products", "blocks")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--ways", nargs="+", choices=WAYS, default=WAYS, help="pytorch, or our rematerialisation (default: all)"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--blocks", type=int, default=24)
    parser.add_argument("--dtype", default="float32", help="our compute dtype")
    parser.add_argument("--measure", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options)
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    arguments = [f"--{name}={getattr(options, name)}" for name in ("seconds", "blocks", "dtype")]
    prepared, rounds = side_by_side.compare("benchmarks.train_step", options.ways, arguments, options.rounds)
    peer = options.ways[0]
    columns = [("compile (s)", 1), ("step (s)", 2), (f"/ {peer}", 2), ("processor (s)", 2), (f"/ {peer}", 2)]
    columns += [("peak memory (MB)", 0), (f"/ {peer}", 2)]
    rows = {}
    for way, steps in rounds.items():
        rows[way] = [prepared[way]["compile"]]
        for figure in ("wall", "processor"):
            rows[way] += [side_by_side.median(steps, figure), side_by_side.median_ratio(steps, rounds[peer], figure)]
        rows[way] += [steps[-1]["peak"], steps[-1]["peak"] / rounds[peer][-1]["peak"]]
    side_by_side.print_table(columns, rows)


def measure(options: argparse.Namespace) -> None:
    """Measures one way in this process."""
    sources = 0.1 * np.random.default_rng(0).standard_normal((1, 2, int(8000 * options.seconds))).astype(np.float32)
    make = pytorch_step if options.measure == "pytorch" else jax_step
    compile_seconds, step = make(options, sources)
    side_by_side.serve({"compile": compile_seconds}, step)


def jax_step(options: argparse.Namespace, sources: np.ndarray) -> tuple[float, Callable[[], None]]:
    import jax

    from mossformer_jax.data.batch import Batch
    from mossformer_jax.model import ModelConfig
    from mossformer_jax.sharding import make_mesh, place_rows
    from mossformer_jax.training.recipe import Recipe
    from mossformer_jax.training.state import begin
    from mossformer_jax.training.step import make_train_step

    config = ModelConfig(num_blocks=options.blocks, dtype=options.dtype, remat=options.measure)
    recipe, mesh = Recipe(), make_mesh()
    lengths = np.full(len(sources), sources.shape[-1], np.int32)
    batch = place_rows(Batch(sources.sum(axis=1), sources, lengths), mesh)
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
    from tests.parity import harness

    network = side_by_side.official_network(ModelConfig(num_blocks=options.blocks)).train()
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
