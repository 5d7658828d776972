"""Measures the time to read the 55.7M-parameter checkpoint without PyTorch, and with PyTorch and its import.

The checkpoint is written from the official network with random weights. Each round is a fresh process that has imported
this package (with JAX and Flax). It reads the file with our reader, then imports torch and uses `torch.load`, then
uses `torch.load` again. Every tensor is summed, so that all of the file is read. The file is in the page cache.

    python benchmarks/read_checkpoint.py
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROUNDS = 3
ROUND = """
import json, sys, time
from pathlib import Path
from mossformer_jax.weights.torch_reader import read_torch_file

def ours():
    return read_torch_file(Path(sys.argv[1]))

def theirs():
    import torch
    return torch.load(sys.argv[1], map_location="cpu", weights_only=True)

times, sums = [], []
for read in (ours, theirs, theirs):
    start = time.process_time(), time.perf_counter()
    sums.append(sum(float(tensor.sum()) for tensor in read().values()))
    times.append((time.process_time() - start[0], time.perf_counter() - start[1]))
assert all(abs(total - sums[0]) < 1e-2 for total in sums), sums
print(json.dumps(times))
"""


def main() -> None:
    """Runs the rounds and prints a table."""
    import torch

    from mossformer_jax.model import PRESETS
    from tests.parity import oracle

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pytorch_model.pt"
        torch.save(oracle.build(PRESETS["mossformer2-2spk"]).state_dict(), file)
        print(f"{file.stat().st_size:,} bytes, {ROUNDS} rounds")
        command = [sys.executable, "-c", ROUND, file]
        rounds = [json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(ROUNDS)]
    print(f"{'':24}{'CPU time':>10}{'wall time':>11}")
    for index, name in enumerate(("without PyTorch", "PyTorch with its import", "PyTorch, imported")):
        cpu, wall = (statistics.median(one[index][kind] for one in rounds) for kind in (0, 1))
        print(f"{name:24}{cpu:8.2f} s{wall:9.2f} s")


if __name__ == "__main__":
    main()
