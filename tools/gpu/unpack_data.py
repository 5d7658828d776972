"""Unpacks the output of pack_data.py into one folder, with the layout that the configs expect.

    python unpack_data.py PACKED DATA

All parts in PACKED are unpacked, except those that were unpacked into DATA before. DATA/speech8k/manifest.csv lists
the WAV files of all parts so far; DATA/heldout/validation/ holds the validation mixtures; DATA/noise8k/ and DATA/rir8k/
hold noises and impulse responses.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile

SAMPLE_RATE = 8000
COLUMNS = ("path", "speaker", "speaker_known", "split", "n_samples", "corpus")


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV table."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def unpack(folder: Path, data: Path, pool: ThreadPoolExecutor) -> list[dict[str, str]]:
    """Writes the recordings of a folder as WAV files.

    Raises:
        ValueError: a packed file is too short; the message names it.
    """
    rows = read_table(folder / "manifest.csv")
    for parent in {(data / row["path"]).parent for row in rows}:
        parent.mkdir(parents=True, exist_ok=True)

    def unpack_chunk(chunk: str) -> None:
        samples, rate = soundfile.read(folder / chunk, dtype="int16")
        for row in rows:
            if row["chunk"] == chunk:
                wave = samples[int(row["start"]) :][: int(row["n_samples"])]
                if len(wave) != int(row["n_samples"]):
                    raise ValueError(f"{folder / chunk}: is too short for {row['path']}; pack the data again")
                soundfile.write(data / row["path"], wave, rate, "PCM_16")

    list(pool.map(unpack_chunk, sorted({row["chunk"] for row in rows})))
    return rows


def unpack_validation(folder: Path, data: Path) -> None:
    """Writes the validation mixtures with their sources."""
    output = data / "heldout" / "validation"
    for name in ("mix", "s1", "s2"):
        (output / name).mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(read_table(folder / "mixtures.csv")):
        sources, rate = soundfile.read(folder / f"{number:02d}.flac", dtype="int16")
        mixture = np.clip(sources.astype(np.int32).sum(1), -(2**15), 2**15 - 1).astype(np.int16)
        signals = {"mixture": mixture, "source_1": sources[:, 0], "source_2": sources[:, 1]}
        for column, signal in signals.items():
            soundfile.write(output / row[column], signal, rate, "PCM_16")
    (output / "mixtures.csv").write_bytes((folder / "mixtures.csv").read_bytes())


def unpack_part(part: Path, data: Path, pool: ThreadPoolExecutor) -> None:
    """Unpacks a part and adds its utterances to the manifest."""
    if (part / "manifest.csv").is_file():
        rows = unpack(part, data, pool)
        table = data / "speech8k" / "manifest.csv"
        table.parent.mkdir(parents=True, exist_ok=True)
        is_new = not table.exists()
        with open(table, "a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
            if is_new:
                writer.writeheader()
            writer.writerows({**row, "path": str((data / row["path"]).absolute())} for row in rows)
    for corpus in ("noise8k", "rir8k"):
        if (part / corpus / "manifest.csv").is_file():
            unpack(part / corpus, data, pool)
    if (part / "validation").is_dir():
        unpack_validation(part / "validation", data)


def main(arguments: Sequence[str] | None = None) -> None:
    """Unpacks all new parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packed", type=Path, metavar="PACKED", help="folder with part1 and part2, or one of them")
    parser.add_argument("data", type=Path, metavar="DATA", help="folder to unpack to")
    flags = parser.parse_args(arguments)
    flags.data.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(16) as pool:
        for part in sorted(flags.packed.glob("part*")):
            marker = flags.data / f".{part.name}"
            if not marker.exists():
                unpack_part(part, flags.data, pool)
                marker.touch()
    table = flags.data / "speech8k" / "manifest.csv"
    if table.exists():
        rows = read_table(table)
        hours = sum(int(row["n_samples"]) for row in rows) / SAMPLE_RATE / 3600
        print(f"{flags.data}: {len(rows)} utterances of training speech, {hours:.2f} h")


if __name__ == "__main__":
    main()
