"""Unpacks the output of pack_data.py into one folder, which is then the `config.data.root` of configs/default_8k.py.

    python unpack_data.py PACKED DATA

All parts in PACKED are unpacked, except those that were unpacked into DATA before. DATA/speech.csv, DATA/noise.csv and
DATA/heldout/validation.csv list the recordings of all parts so far; DATA/rooms has their impulse responses.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import soundfile

SAMPLE_RATE = 8000
COLUMNS = ("path", "speaker", "speaker_known", "split", "num_samples", "corpus")
NAMES = ("speech", "noise", "rooms", "heldout")
Row = dict[str, str]


def read_table(path: Path) -> list[Row]:
    """The rows of a CSV table."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def add_to_table(path: Path, rows: Iterable[Row], columns: Sequence[str]) -> None:
    """Adds rows to a CSV table, which is created if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    with open(path, "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerows(rows)


def unpack(folder: Path, data: Path, pool: ThreadPoolExecutor) -> list[Row]:
    """Writes the recordings of a folder as WAV files.

    Raises:
        ValueError: a packed file is too short; the message names it.
    """
    rows = read_table(folder / "files.csv")
    for parent in {(data / row["path"]).parent for row in rows}:
        parent.mkdir(parents=True, exist_ok=True)

    def unpack_chunk(chunk: str) -> None:
        samples, rate = soundfile.read(folder / chunk, dtype="int16")
        for row in rows:
            if row["chunk"] == chunk:
                wave = samples[int(row["start"]) :][: int(row["num_samples"])]
                if len(wave) != int(row["num_samples"]):
                    raise ValueError(f"{folder / chunk}: is too short for {row['path']}; pack the data again")
                soundfile.write(data / row["path"], wave, rate, "PCM_16")

    list(pool.map(unpack_chunk, sorted({row["chunk"] for row in rows})))
    return rows


def unpack_part(part: Path, data: Path, pool: ThreadPoolExecutor) -> None:
    """Unpacks a part and adds its recordings to the tables."""
    rows = {name: unpack(part / name, data, pool) for name in NAMES}
    for name in ("speech", "noise"):
        add_to_table(data / f"{name}.csv", rows[name], COLUMNS)
    validation = read_table(part / "validation.csv")
    add_to_table(data / "heldout" / "validation.csv", validation, list(validation[0]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Unpacks all new parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packed", type=Path, metavar="PACKED", help="folder with some of the parts")
    parser.add_argument("data", type=Path, metavar="DATA", help="folder to unpack to")
    flags = parser.parse_args(arguments)
    flags.data.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(16) as pool:
        for part in sorted(flags.packed.glob("part*")):
            marker = flags.data / f".{part.name}"
            if not marker.exists():
                unpack_part(part, flags.data, pool)
                marker.touch()
    table = flags.data / "speech.csv"
    if table.exists():
        rows = read_table(table)
        hours = sum(int(row["num_samples"]) for row in rows) / SAMPLE_RATE / 3600
        print(f"{flags.data}: {len(rows)} utterances of training speech, {hours:.2f} h")


if __name__ == "__main__":
    main()
