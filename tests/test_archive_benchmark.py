"""benchmarks/archive.py, in a tiny setting."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY


@pytest.mark.slow
def test_the_benchmark_of_an_archive_prints_a_row_per_way(tiny_model_folder):
    # Long enough for several ticks of the CPU clock, each of 10 ms.
    options = ["--files", "12", "--seconds", "1", "--rounds", "1", "--model", tiny_model_folder]
    command = [sys.executable, "-m", "benchmarks.archive", *options, "--ways", "core", "files"]
    printed = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout
    rows = [line.split() for line in printed.splitlines()]
    assert [row[0] for row in rows] == ["way", "core", "files"]
    assert all(float(row[1]) > 0 and float(row[-1]) > 50 for row in rows[1:])
