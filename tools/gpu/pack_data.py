"""Packs the training data of the default model into three parts.

    python tools/gpu/pack_data.py DATA OUTPUT

DATA is a folder as prepared by the commands in configs/default_8k.py: speech.csv, noise.csv, rooms/ and heldout/. Each
of OUTPUT/part1 to part3 has a third of the training speakers, training noises, rooms and validation mixtures, and is
enough for a training. Held-out speakers and noises are only in the validation mixtures.

Speech and noise are stored as Ogg Vorbis at 31 kbit/s: the median SNR of its coding is 29 dB, its log-spectral distance
1.3 dB, its size 40 % of FLAC's. Opus at the same rate reaches 26 dB and does not preserve lengths exactly. Rooms and
validation mixtures are 16-bit FLAC. Recordings are concatenated into files of about ten minutes, because each file's
header takes 4 KB; files.csv has the start of each.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

SAMPLE_RATE = 8000
NUM_PARTS = 3
CHUNK = 600 * SAMPLE_RATE
BLOCK = 2**15
COLUMNS = ("path", "speaker", "speaker_known", "split", "num_samples", "corpus", "chunk", "start")
SIGNALS = ("mixture", "source_1", "source_2")
Row = dict[str, Any]


def read_table(path: Path) -> list[Row]:
    """The rows of a CSV table."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_table(path: Path, rows: Iterable[Row], columns: Sequence[str]) -> None:
    """Writes a CSV table with these columns; other fields are ignored."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_samples(path: Path) -> np.ndarray:
    """A recording, float32.

    Raises:
        ValueError: it is not mono at 8 kHz; the message names it.
    """
    samples, rate = soundfile.read(path, dtype="float32")
    if rate != SAMPLE_RATE or samples.ndim != 1:
        raise ValueError(f"{path}: has {rate} Hz and shape {samples.shape}; must be mono at {SAMPLE_RATE} Hz")
    return samples


def write_chunk(path: Path, samples: np.ndarray, compression: float) -> None:
    """Writes a FLAC or Vorbis file."""
    if path.suffix == ".flac":
        soundfile.write(path, samples, SAMPLE_RATE, "PCM_16", compression_level=1.0)
        return
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, "VORBIS", format="OGG", compression_level=compression) as file:
        # libsndfile's Vorbis encoder copies the input of each call to the stack.
        for start in range(0, len(samples), BLOCK):
            file.write(samples[start : start + BLOCK])


def pack(rows: Iterable[tuple[np.ndarray, Row]], folder: Path, suffix: str, compression: float) -> None:
    """Concatenates recordings into folder/00.ogg, 01.ogg, ... and writes their files.csv."""
    folder.mkdir(parents=True)
    table: list[Row] = []
    waves: list[np.ndarray] = []

    def flush(chunk: str) -> None:
        write_chunk(folder / chunk, np.concatenate(waves), compression)
        waves.clear()

    number, filled = 0, 0
    for samples, row in rows:
        if filled >= CHUNK:
            flush(f"{number:02d}{suffix}")
            number, filled = number + 1, 0
        table.append({**row, "num_samples": len(samples), "chunk": f"{number:02d}{suffix}", "start": filled})
        waves.append(samples)
        filled += len(samples)
    if waves:
        flush(f"{number:02d}{suffix}")
    write_table(folder / "files.csv", table, COLUMNS)


def distribute(rows: Iterable[Row], key: str) -> list[list[Row]]:
    """Distributes the values of a column over parts of about equal length."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        # Files of unknown speakers are independent of each other.
        groups.setdefault(row[key] if row.get("speaker_known") != "0" else row["path"], []).append(row)
    parts: list[list[Row]] = [[] for _ in range(NUM_PARTS)]
    sizes = [0] * NUM_PARTS
    for _, group in sorted(groups.items()):
        part = sizes.index(min(sizes))
        parts[part].extend(group)
        sizes[part] += sum(int(row["num_samples"]) for row in group)
    return parts


def table_recordings(data: Path, name: str) -> list[list[Row]]:
    """The training rows of a table; `source` is the path of each file, `path` the one that it is unpacked to."""
    rows = read_table(data / f"{name}.csv")
    train = [
        {**row, "source": data / row["path"], "path": f"{name}/{number:05d}.wav"}
        for number, row in enumerate(rows)
        if row["split"] == "train"
    ]
    return distribute(train, "speaker")


def room_recordings(data: Path, num_rooms: int) -> list[list[Row]]:
    """The impulse responses of the first rooms."""
    rooms = sorted(path for path in (data / "rooms").iterdir() if path.is_dir())[:num_rooms]
    parts: list[list[Row]] = [[] for _ in range(NUM_PARTS)]
    for number, room in enumerate(rooms):
        files = sorted(room.glob("*.wav"))
        parts[number % NUM_PARTS].extend({"source": file, "path": f"rooms/{room.name}/{file.name}"} for file in files)
    return parts


def response(path: Path) -> np.ndarray:
    """An impulse response, scaled to full scale for its 16 bits; its level does not matter."""
    samples = read_samples(path)
    return samples * (0.999 / max(float(np.abs(samples).max()), 1e-9))


def pack_validation(rows: Sequence[Row], data: Path, part: Path) -> None:
    """Packs validation mixtures. Neither sums of two sources nor signals of an earlier mixture are stored again."""
    kept: list[Row] = []
    recordings: list[tuple[np.ndarray, Row]] = []
    names: dict[bytes, str] = {}
    for row in rows:
        signals = {name: read_samples(data / "heldout" / row[name]) for name in SIGNALS}
        if np.array_equal(signals["mixture"], signals["source_1"] + signals["source_2"]):
            row = {**row, "mixture": ""}
        for name in SIGNALS:
            samples = signals[name].tobytes()
            if row[name] and samples not in names:
                names[samples] = row[name]
                recordings.append((signals[name], {"path": f"heldout/{row[name]}"}))
            row = {**row, name: row[name] and names[samples]}
        kept.append(row)
    pack(recordings, part / "heldout", ".flac", 0.0)
    write_table(part / "validation.csv", kept, list(rows[0]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes all parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA", help="folder with speech.csv, noise.csv, rooms, heldout")
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="folder to write the parts to; must be new")
    parser.add_argument(
        "--compression", type=float, default=0.3, help="of speech, from 0 (best) to 1 (smallest) (default: %(default)s)"
    )
    parser.add_argument("--rooms", type=int, default=200, metavar="N", help="number of rooms (default: %(default)s)")
    flags = parser.parse_args(arguments)
    data, parts = flags.data, [flags.output / f"part{number + 1}" for number in range(NUM_PARTS)]
    for name in ("speech", "noise"):
        for part, rows in zip(parts, table_recordings(data, name), strict=True):
            pack(((read_samples(row["source"]), row) for row in rows), part / name, ".ogg", flags.compression)
    for part, rows in zip(parts, room_recordings(data, flags.rooms), strict=True):
        pack(((response(row["source"]), row) for row in rows), part / "rooms", ".flac", 0.0)
    held_out = read_table(data / "heldout" / "validation.csv")
    for number, part in enumerate(parts):
        pack_validation(held_out[number::NUM_PARTS], data, part)


if __name__ == "__main__":
    main()
