"""Measures the mixtures per second of dynamic mixing, compared with PyTorch's DataLoader and with decoding alone.

The batches are two-speaker mixtures of 4 s crops from 8 kHz FLAC files. All implementations read the same files and
draw crops in the same way: ours with worker processes and with threads; a plain PyTorch DataLoader (soundfile and
NumPy) that does the same work; and decoding of two random crops per mixture without mixing. They run alternately, so
that other load on the machine affects all of them alike, and the ratios are medians over the rounds.

    python benchmarks/data.py
    python benchmarks/data.py --manifest speech/manifest.csv --workers 4 --rounds 10
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch.utils.data import DataLoader, Dataset

from mossformer_jax.audio import write_audio
from mossformer_jax.data.demo import Voice, synthesise
from mossformer_jax.data.mixing import DynamicMixing
from mossformer_jax.data.pipeline import train_batches
from mossformer_jax.data.utterances import Utterances

RATE = 8000
CROP = 4 * RATE
WARM_UP_BATCHES = 30  # more than any implementation prefetches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, help="8 kHz speech to use (default: synthesised)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--batches", type=int, default=60, help="batches per way and round (default: 60)")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        speech = long_utterances(options.manifest or write_speech(Path(folder)))
        print(f"{len(speech)} utterances, {options.workers} workers, batches of {options.batch}")
        compare(speech, options)


def compare(speech: Utterances, options: argparse.Namespace) -> None:
    num_batches, batch, workers = options.batches, options.batch, options.workers
    mixing = DynamicMixing(speech, epoch_size=100_000)
    ours = train_batches(mixing, batch_size=batch, num_samples=CROP, num_workers=workers)
    threads = train_batches(mixing, batch_size=batch, num_samples=CROP)
    loader = iter(DataLoader(PlainMixing(speech), batch_size=batch, num_workers=workers))
    with multiprocessing.get_context("spawn").Pool(workers) as pool:

        def decode(num_batches: int) -> None:
            share = num_batches * batch * 2 // workers
            pool.starmap(decode_crops, [(speech.paths, share, seed) for seed in range(workers)], chunksize=1)

        ways: dict[str, Callable[[int], object]] = {
            "ours": lambda count: take(ours, count),
            "ours, threads": lambda count: take(threads, count),
            "DataLoader": lambda count: take(loader, count),
            "decoding alone": decode,
        }
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way, make in ways.items():
                # Consumes prefetched batches, and lets the previous way's workers become idle.
                make(WARM_UP_BATCHES)
                began = time.perf_counter()
                make(num_batches)
                rates[way].append(num_batches * batch / (time.perf_counter() - began))
    ours.close()
    print(f"{'way':<15}{'mixtures/s':>11}{'/ DataLoader':>14}{'/ decoding alone':>18}")
    for way, each in rates.items():
        ratios = [
            statistics.median(a / b for a, b in zip(each, rates[peer], strict=True))
            for peer in ("DataLoader", "decoding alone")
        ]
        print(f"{way:<15}{statistics.median(each):>11.0f}{ratios[0]:>14.2f}{ratios[1]:>18.2f}")


def take(batches: Iterator[object], count: int) -> None:
    """Consumes batches, as training does."""
    for _ in range(count):
        next(batches)


class PlainMixing(Dataset):
    """Dynamic mixing as a PyTorch user would write it."""

    def __init__(self, speech: Utterances):
        self.paths, self.speakers = speech.paths, speech.speakers

    def __len__(self) -> int:
        return 2**31

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng(index)
        first = second = int(rng.integers(len(self.paths)))
        while self.speakers[second] == self.speakers[first]:
            second = int(rng.integers(len(self.paths)))
        sources = np.stack([read_crop(self.paths[place], rng) for place in (first, second)])
        gain = np.clip(rng.normal(-27.43, 2.57), -45, 0)
        gains = np.array([gain, np.clip(gain + rng.normal(-2.51, 2.66), -45, 0)])
        sources *= (10 ** (gains / 20) / (np.abs(sources).mean(axis=1) + 1e-12)).astype(np.float32)[:, None]
        mixture = sources.sum(axis=0)
        peak = max(np.abs(mixture).max(), np.abs(sources).max())
        if peak > 0.9:
            sources, mixture = sources * np.float32(0.9 / peak), mixture * np.float32(0.9 / peak)
        return {"mixture": torch.from_numpy(mixture), "sources": torch.from_numpy(sources)}


def read_crop(path: str, rng: np.random.Generator) -> np.ndarray:
    with soundfile.SoundFile(path) as file:
        file.seek(int(rng.integers(file.frames - CROP + 1)))
        return file.read(CROP, dtype="float32")


def decode_crops(paths: list[str], count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        read_crop(paths[rng.integers(len(paths))], rng)


def long_utterances(manifest: Path) -> Utterances:
    """The utterances of 4 s or more, from which every way can cut a crop."""
    speech = Utterances.from_manifest(manifest, sample_rate=RATE)
    keep = [index for index in range(len(speech)) if speech.num_samples(index) >= CROP]
    return Utterances(
        [speech.paths[index] for index in keep],
        [speech.speaker_names[speech.speakers[index]] for index in keep],
        RATE,
        [speech.num_samples(index) for index in keep],
    )


def write_speech(folder: Path) -> Path:
    """Writes synthetic utterances of 40 speakers, 12 s each, which is LibriSpeech's mean length."""
    names, speakers = [], []
    for number in range(120):
        rng = np.random.default_rng(number)
        voice = Voice(pitch=rng.uniform(90, 260), formant_scale=1.0, syllables_per_second=4.0, breath=0.02)
        names.append(str(folder / f"{number}.flac"))
        speakers.append(f"speaker{number % 40}")
        write_audio(names[-1], synthesise(voice, 12.0, RATE, rng), RATE)
    Utterances(names, speakers, RATE).write_manifest(folder / "manifest.csv")
    return folder / "manifest.csv"


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
