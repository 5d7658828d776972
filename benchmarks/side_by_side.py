"""Ways to do one thing, each in a process of its own, that take turns.

What else the machine does falls on all of them alike, so that the median of the ratios holds where the times do not. A
process a way, since the peak of its resident memory is one of the figures, and since PyTorch and XLA would each keep
threads that disturb the other.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
Figures = dict[str, float]


def compare(module: str, ways: Sequence[str], arguments: Sequence[str], rounds: int) -> tuple[dict, dict]:
    """Runs `python -m module ARGUMENTS --measure WAY` once a way, and asks them in turn for a run.

    Args:
        module: what calls `serve` when it is given --measure.
        ways: the first is the one that the others are compared with.
        arguments: of all of them.
        rounds: how many runs of each.

    Returns:
        What each said of its preparation, and its runs, by way.
    """
    children, prepared, runs = {}, {}, {way: [] for way in ways}
    command = [sys.executable, "-m", module, *arguments, "--measure"]
    # Started one after the other: a process compiles before it says its first line.
    for way in ways:
        children[way] = subprocess.Popen(
            [*command, way], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        prepared[way] = _answer(way, children[way])
    for _ in range(rounds):
        for way, child in children.items():
            print("run", file=child.stdin, flush=True)
            runs[way].append(_answer(way, child))
    for child in children.values():
        child.communicate()
    return prepared, runs


def _answer(way: str, child: subprocess.Popen) -> Figures:
    line = child.stdout.readline()
    if not line:
        raise SystemExit(f"{way} ended with status {child.wait()}; what it said stands above")
    return json.loads(line)


def serve(prepared: Figures, run: Callable[[], object]) -> None:
    """The child's part: says what preparing it took, then makes a run a line of the standard input."""
    run()  # the first one allocates
    print(json.dumps(prepared), flush=True)
    for _ in sys.stdin:
        wall, processor = time.perf_counter(), time.process_time()
        run()
        figures = {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}
        figures["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(figures), flush=True)


def median(runs: Sequence[Figures], figure: str) -> float:
    """The median of one figure over the rounds."""
    return statistics.median(run[figure] for run in runs)


def median_ratio(runs: Sequence[Figures], peer: Sequence[Figures], figure: str) -> float:
    """The median over the rounds of a way's figure over its peer's in the same round."""
    return statistics.median(ours[figure] / theirs[figure] for ours, theirs in zip(runs, peer, strict=True))


def official_network(config):
    """The official PyTorch model of these sizes, on all cores (as an oracle in tests it takes one)."""
    import torch

    from tests.parity import oracle

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    return oracle.build(config)


def print_table(columns: Sequence[tuple[str, int]], rows: dict[str, Sequence[float]]) -> None:
    """Prints a row a way; a column is its title and its number of decimals."""
    print(f"{'way':<10}" + "".join(f"{title:>18}" for title, _ in columns))
    for way, row in rows.items():
        cells = zip(row, columns, strict=True)
        print(f"{way:<10}" + "".join(f"{value:>18.{decimals}f}" for value, (_, decimals) in cells), flush=True)
