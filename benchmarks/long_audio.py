"""Measures the memory and time to separate long recordings, in windows and in one pass.

Each row is measured in a separate process, which loads the model and separates a file into files. The peak memory is
the increase of the resident memory over that with the loaded model. The single pass has no memory limit.

    python benchmarks/long_audio.py
    python benchmarks/long_audio.py --minutes 1 10 --model models/16k
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from mossformer_jax.audio import read_audio
from mossformer_jax.audio.streams import AudioWriter

EXAMPLES = Path(__file__).parents[1] / "examples" / "synthetic"
# Longer recordings are not separated in one pass, which needs about 5 MB per second of audio with the default model.
ONE_PASS_MINUTES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 10, 60])
    parser.add_argument("--model", default="default")
    parser.add_argument("--memory", type=float, default=1e9, help="budget of the windows in bytes (default: 1e9)")
    parser.add_argument("--measure", nargs=3, metavar=("FILE", "MEMORY", "DIR"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.model, *options.measure)
        return
    columns = (
        ("minutes", ">7"),
        ("  way", "<12"),
        ("windows", ">8"),
        ("peak memory (MB)", ">18"),
        ("compile (s)", ">13"),
    )
    print("".join(format(*column) for column in (*columns, ("run (s)", ">10"), ("RTF", ">8"))))
    with tempfile.TemporaryDirectory() as folder:
        for minutes in options.minutes:
            path = Path(folder) / f"{minutes:g}.wav"
            write_conversation(path, minutes)
            ways = {"default": options.memory, "one pass": 1e12}
            for way, memory in ways.items():
                if way == "one pass" and minutes > ONE_PASS_MINUTES:
                    continue
                command = [sys.executable, __file__, "--model", options.model]
                command += ["--measure", str(path), str(memory), folder]
                row = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
                print(
                    f"{minutes:>7g}  {way:<10}{row['windows']:>8}  {row['peak'] / 1e6:>16.0f}  {row['compile']:>11.1f}"
                    f"  {row['run']:>8.1f}  {row['run'] / (60 * minutes):>6.3f}",
                    flush=True,
                )


def write_conversation(path: Path, minutes: float) -> None:
    """Writes the two voices of the shipped example repeatedly, with new random shifts every time."""
    rng = np.random.default_rng(0)
    (first, rate), (second, _) = (read_audio(EXAMPLES / f"source{number}.wav") for number in (1, 2))
    turns = round(minutes * 60 * rate / first.shape[1])
    with AudioWriter(path, rate) as writer:
        for _ in range(turns):
            shifts = rng.integers(first.shape[1], size=2)
            writer.write(0.5 * (np.roll(first, shifts[0], axis=1) + np.roll(second, shifts[1], axis=1)))


def measure(model: str, file: str, memory: str, folder: str) -> None:
    """Separates one file and prints the measurements as JSON."""
    from mossformer_jax.separation import Separator, separate_file

    separator = Separator.from_pretrained(model, memory=float(memory), shifts=1)
    watch = MemoryWatch()
    separated = separate_file(separator, file, [Path(folder) / f"s{number}.wav" for number in (1, 2)])
    row = {
        "peak": watch.stop(),
        "windows": len(separated.boundaries) + 1,
        "compile": separated.timings.compile_seconds,
        "run": separated.timings.run_seconds,
    }
    print(json.dumps(row))


class MemoryWatch:
    """Samples the resident memory of this process 50 times per second; `stop` returns the peak increase in bytes."""

    def __init__(self):
        self._start = self._peak = resident_bytes()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stopped.is_set():
            self._peak = max(self._peak, resident_bytes())
            time.sleep(0.02)

    def stop(self) -> int:
        self._stopped.set()
        self._thread.join()
        return self._peak - self._start


def resident_bytes() -> int:
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024


if __name__ == "__main__":
    main()
