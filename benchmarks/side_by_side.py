"""Compares several implementations ("ways") of a task, each in a separate process, that run alternately.

Other load on the machine affects all of them alike, so that the median of the ratios is reliable even if the times are
not. Each way has a separate process because its peak resident memory is measured, and because the threads of PyTorch
and XLA would disturb each other.
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
    """Starts `python -m MODULE ARGUMENTS --measure WAY` for each way, and lets them run alternately.

    Args:
        module: a module that calls `serve` if it is given --measure.
        ways: the first is the baseline of the comparison.
        arguments: command-line arguments of every process.
        rounds: number of runs of each way.

    Returns:
        The measurements of the preparation and those of the runs, by way.
    """
    children, prepared, runs = {}, {}, {way: [] for way in ways}
    command = [sys.executable, "-m", module, *arguments, "--measure"]
    # Started one after another, because each process compiles before it prints its first line.
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
        raise SystemExit(f"{way} failed with exit status {child.wait()}; see its output above")
    return json.loads(line)


def serve(prepared: Figures, run: Callable[[], object]) -> None:
    """In the child process: prints the measurements of the preparation, then makes one run per line of stdin."""
    run()  # the first run allocates memory
    print(json.dumps(prepared), flush=True)
    for _ in sys.stdin:
        wall, processor = time.perf_counter(), time.process_time()
        run()
        figures = {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}
        figures["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(figures), flush=True)


def median(runs: Sequence[Figures], figure: str) -> float:
    """The median of a measurement over the rounds."""
    return statistics.median(run[figure] for run in runs)


def median_ratio(runs: Sequence[Figures], peer: Sequence[Figures], figure: str) -> float:
    """The median over the rounds of the ratio of a measurement to the peer's in the same round."""
    return statistics.median(ours[figure] / theirs[figure] for ours, theirs in zip(runs, peer, strict=True))


def official_network(config):
    """The official PyTorch model with this config, on all cores (in the tests it uses a single core)."""
    import torch

    from tests.parity import oracle

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    return oracle.build(config)


def print_table(columns: Sequence[tuple[str, int]], rows: dict[str, Sequence[float]]) -> None:
    """Prints one row per way. A column has a title and a number of decimals."""
    print(f"{'way':<10}" + "".join(f"{title:>18}" for title, _ in columns))
    for way, row in rows.items():
        cells = zip(row, columns, strict=True)
        print(f"{way:<10}" + "".join(f"{value:>18.{decimals}f}" for value, (_, decimals) in cells), flush=True)
