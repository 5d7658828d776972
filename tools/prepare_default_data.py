"""Writes the tables of the speech and noise for training and testing the default model.

    python tools/prepare_default_data.py --data DATA --output TABLES

DATA holds the folders speech8k, speech8k_more and noise8k, each with its manifest.csv. TABLES/speech.csv and
TABLES/noise.csv list their files, with the column split:

    train          all other speakers and noises
    dev            the 27 held-out speakers of speech8k; held-out noises
    dev-children   every sixth child under 16 of speechocean762 (21 of 122)
    dev-nonnative  every eighth adult of speechocean762 (16 of 128)

All noises of a recording are in the same split. Held out are takes 2-* of ESC-10, the exercise bike, and rooms 8 and 9.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

ADULT_AGE = 16
HELD_OUT_NOISE = ("esc10_*_2-*", "gsc_exercise_bike_*", "mycroft_bg_noise8_*", "mycroft_bg_noise9_*")
COLUMNS = ("path", "speaker", "speaker_known", "split", "num_samples", "corpus", "licence")


def read_rows(path: Path) -> list[dict[str, str]]:
    """Reads the rows of a table."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def held_out_speakers(speakers: Path) -> dict[str, str]:
    """The split of each held-out speaker of speechocean762, from the table of their ages."""
    rows = sorted(read_rows(speakers), key=lambda row: row["speaker"])
    children = [row["speaker"] for row in rows if int(row["age"]) < ADULT_AGE]
    adults = [row["speaker"] for row in rows if int(row["age"]) >= ADULT_AGE]
    return dict.fromkeys(children[::6], "dev-children") | dict.fromkeys(adults[::8], "dev-nonnative")


def speech_rows(data: Path, output: Path) -> list[dict[str, str]]:
    """Makes the rows of speech.csv."""
    held_out = held_out_speakers(data / "speech8k_more" / "speechocean762" / "speakers.csv")
    rows = []
    for name in ("speech8k", "speech8k_more"):
        for row in read_rows(data / name / "manifest.csv"):
            path = os.path.relpath(data / name / row["path"], output)
            split = held_out.get(row["speaker"], row["split"])
            rows.append({**row, "path": path, "split": split, "num_samples": row["n_samples"]})
    return rows


def noise_rows(data: Path, output: Path) -> list[dict[str, str]]:
    """Makes the rows of noise.csv; each file has its own speaker id."""
    rows = []
    for row in read_rows(data / "noise8k" / "manifest.csv"):
        split = "dev" if any(fnmatch(row["path"], pattern) for pattern in HELD_OUT_NOISE) else "train"
        path = os.path.relpath(data / "noise8k" / row["path"], output)
        fields = {"path": path, "speaker": row["path"], "speaker_known": "1", "split": split, "corpus": "noise8k"}
        rows.append({**row, **fields, "num_samples": row["n_samples"]})
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with speech8k, speech8k_more and noise8k")
    parser.add_argument("--output", type=Path, required=True, metavar="TABLES", help="folder to write the tables to")
    flags = parser.parse_args(arguments)
    data, output = flags.data.resolve(), flags.output.resolve()
    tables = {"speech.csv": speech_rows(data, output), "noise.csv": noise_rows(data, output)}
    output.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        with open(output / name, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        counts = {split: sum(row["split"] == split for row in rows) for split in sorted({row["split"] for row in rows})}
        print(f"{flags.output / name}: " + ", ".join(f"{count} {split}" for split, count in counts.items()))


if __name__ == "__main__":
    main()
