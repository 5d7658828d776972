"""Measures how fast a folder of short recordings is separated, compared with a plain PyTorch loop.

    python -m benchmarks.archive
    python -m benchmarks.archive --model default --ways core cores jobs files

The ways: `mossformer-jax separate` on one core (`core`), on all cores (`cores`), and with one process per core
(`jobs`); a loop of soundfile and the official PyTorch network on all cores (`pytorch`), as programs with SpeechBrain or
demucs do it; and reading, resampling and writing alone, on one core (`files`). By default, the networks have random
weights and about the size of the default model, within what the official code allows. Each way is a new process in each
round. Starting and compiling do not count: time is measured between two of the lines that a process prints, one per
recording. CPU time depends less on other load than speed does. Needs the official code (docs/parity.md) and Linux.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import soundfile

from benchmarks import side_by_side
from mossformer_jax.model import ModelConfig
from mossformer_jax.weights.store import read_config

WAYS = ("core", "cores", "jobs", "pytorch", "files")
SIZE = ModelConfig(encoder_channels=128, model_channels=128, num_blocks=6, kernel_size=64, stride=32)
MIXTURE = side_by_side.ROOT / "examples" / "mixture.wav"
COMMAND = "from mossformer_jax.cli import main; exit(main())"
# The recordings in which processes start and reach their usual speed.
WARM_UP = 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--files", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each recording")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", help="of our ways (default: the size of the PyTorch network, with random weights)")
    parser.add_argument("--measure", nargs=3, metavar=("WAY", "IN", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        way, *folders = options.measure
        {"pytorch": loop_of_pytorch, "files": loop_of_files}[way](*map(Path, folders), options.model)
        return
    with tempfile.TemporaryDirectory() as folder:
        compare(options, Path(folder))


def compare(options: argparse.Namespace, folder: Path) -> None:
    """Runs the ways alternately and prints medians, and medians of the ratios to the first way."""
    if options.model is None:
        options.model = str(folder / "model")
        save_random_model(options.model)
    rate = read_config(options.model).sample_rate
    write_recordings(folder / "in", options.files, options.seconds, rate)
    runs = {way: [] for way in options.ways}
    for number in range(options.rounds):
        for way in options.ways:
            runs[way].append(run(way, options, folder, folder / f"{way} {number}"))
            print(f"round {number + 1}, {way}: {runs[way][-1]}", file=sys.stderr, flush=True)
    rows = {}
    for way in options.ways:
        row = [side_by_side.median(runs[way], figure) for figure in ("speed", "processor", "peak")]
        ratios = [side_by_side.median_ratio(runs[way], runs[options.ways[0]], each) for each in ("speed", "processor")]
        rows[way] = [row[0], ratios[0], row[1], ratios[1], row[2]]
    first = f"/ {options.ways[0]}"
    columns = [("x real time", 1), (first, 2), ("CPU s per s", 4), (first, 2), ("peak (MB)", 0)]
    side_by_side.print_table(columns, rows)


def run(way: str, options: argparse.Namespace, folder: Path, out: Path) -> side_by_side.Figures:
    """Separates the recordings; returns the speed, the CPU time per second of audio, and the peak memory in MB."""
    cores = sorted(os.sched_getaffinity(0))
    if way in ("pytorch", "files"):
        command = ["-m", "benchmarks.archive", "--model", options.model, "--measure", way, folder / "in", out]
    else:
        command = ["-c", COMMAND, "separate", folder / "in", "-o", out, "--json", "--device", "cpu", "--shifts", "1"]
        command += ["--model", options.model, "--compile-cache", folder / "compiled"]
        command += ["--jobs", str(len(cores))] if way == "jobs" else []
    os.sched_setaffinity(0, cores[:1] if way in ("core", "files") else cores)  # the new process inherits it
    process = subprocess.Popen([sys.executable, *map(str, command)], cwd=side_by_side.ROOT, stdout=subprocess.PIPE)
    os.sched_setaffinity(0, cores)
    first, last = round(WARM_UP * options.files), options.files - 1
    marks = [
        (time.perf_counter(), processor_seconds(process.pid))
        for number, _ in enumerate(process.stdout)
        if number in (first, last)
    ]
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or len(marks) != 2:
        raise SystemExit(f"{way} failed with exit status {process.returncode}; see its output above")
    wall, processor = ((end - start) / (last - first) for start, end in zip(*marks, strict=True))
    speed = {"speed": options.seconds / wall, "processor": processor / options.seconds}
    return speed | {"peak": used.ru_maxrss / 1024}


def processor_seconds(parent: int) -> float:
    """CPU time of a process and its children so far."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()  # from the third one, the state
            if parent in (int(path.parent.name), int(fields[1])):
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def save_random_model(folder: str) -> None:
    from flax import nnx

    from mossformer_jax.model import MossFormer2
    from mossformer_jax.weights import save_model

    save_model(folder, SIZE, nnx.state(MossFormer2(SIZE, rngs=nnx.Rngs(0))))


def write_recordings(folder: Path, number: int, seconds: float, rate: int) -> None:
    """Two speakers, in another order of samples in each recording."""
    speech, _ = soundfile.read(MIXTURE, dtype="float32")
    folder.mkdir()
    for each in range(number):
        recording = np.resize(np.roll(speech, 1000 * each), round(rate * seconds))
        soundfile.write(folder / f"{each:04}.wav", recording, rate)


def loop_of_pytorch(recordings: Path, out: Path, model: str) -> None:
    import torch

    network = side_by_side.official_network(SIZE).eval()
    out.mkdir()
    for path in sorted(recordings.iterdir()):
        mixture, rate = soundfile.read(path, dtype="float32")
        with torch.inference_mode():
            sources = network(torch.from_numpy(mixture)[None])
        for number, source in enumerate(sources, start=1):
            source = source[0].numpy()
            soundfile.write(out / f"{path.stem}_s{number}.wav", 0.9 * source / np.abs(source).max(), rate)
        print(path, flush=True)


def loop_of_files(recordings: Path, out: Path, model: str) -> None:
    """Our loop with a network that returns halves of the mixture."""
    from mossformer_jax.separation import Separator, separate_file

    def halves(padded_bt, lengths_b):
        return np.stack([padded_bt / 2] * 2, axis=1)

    network = SimpleNamespace(
        config=read_config(model), device=SimpleNamespace(platform="cpu"), compile=lambda batch, length: halves
    )
    separator = Separator(network)
    for path in sorted(recordings.iterdir()):
        separate_file(separator, path, [out / f"{path.stem}_s{number}.wav" for number in (1, 2)])
        print(path, flush=True)


if __name__ == "__main__":
    main()
