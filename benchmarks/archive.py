"""Measures how fast a folder of short recordings is separated, compared with a plain PyTorch loop.

    python -m benchmarks.archive
    python -m benchmarks.archive --model default --ways core cores jobs files

The ways: `mossformer-jax separate` on one core (`core`), on all cores (`cores`), and with one process per core
(`jobs`); a loop of soundfile and the official PyTorch network on all cores (`pytorch`), as programs with SpeechBrain or
demucs do it; and reading, resampling and writing alone, on one core (`files`). By default, the networks have random
weights and about the size of the default model, within what the official code allows. Each way is a new process in each
round. Starting and compiling do not count: time is measured between two of the lines that a process prints, one per
recording. Needs the official code (docs/parity.md) and Linux.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
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
            seconds, peak = run(way, options, folder, folder / f"{way} {number}")
            runs[way].append({"speed": options.seconds / seconds, "peak": peak})
            print(f"round {number + 1}, {way}: {runs[way][-1]['speed']:.1f}", file=sys.stderr, flush=True)
    rows = {}
    for way in options.ways:
        ratio = side_by_side.median_ratio(runs[way], runs[options.ways[0]], "speed")
        rows[way] = [side_by_side.median(runs[way], "speed"), ratio, side_by_side.median(runs[way], "peak")]
    side_by_side.print_table([("x real time", 1), (f"/ {options.ways[0]}", 2), ("peak (MB)", 0)], rows)


def run(way: str, options: argparse.Namespace, folder: Path, out: Path) -> tuple[float, float]:
    """Separates the recordings; returns the seconds per recording and the peak memory of a process in MB."""
    cores = sorted(os.sched_getaffinity(0))
    if way in ("pytorch", "files"):
        command = ["-m", "benchmarks.archive", "--model", options.model, "--measure", way, folder / "in", out]
    else:
        command = ["-c", COMMAND, "separate", folder / "in", "-o", out, "--json", "--device", "cpu"]
        command += ["--model", options.model, "--compile-cache", folder / "compiled"]
        command += ["--jobs", str(len(cores))] if way == "jobs" else []
    os.sched_setaffinity(0, cores[:1] if way in ("core", "files") else cores)  # the new process inherits it
    process = subprocess.Popen([sys.executable, *map(str, command)], cwd=side_by_side.ROOT, stdout=subprocess.PIPE)
    os.sched_setaffinity(0, cores)
    times = [time.perf_counter() for _ in process.stdout]
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or len(times) != options.files:
        raise SystemExit(f"{way} failed with exit status {process.returncode}; see its output above")
    first = round(WARM_UP * len(times))
    return (times[-1] - times[first]) / (len(times) - 1 - first), used.ru_maxrss / 1024


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
