"""Packs the training speech into two parts, with the validation mixtures, noises and impulse responses.

    python tools/gpu/pack_data.py DATA OUTPUT

DATA holds speech8k/, speech8k_more/, noise8k/ and rir8k/ with their manifest.csv; only speech8k is required. Each of
OUTPUT/part1 and OUTPUT/part2 has half of the speakers of every corpus and is enough for a training. The validation
mixtures are in part1, noises and impulse responses in part2.

Training speech is stored as Ogg Vorbis at 31 kbit/s: the median SNR of its coding is 29 dB, its log-spectral distance
1.3 dB, its size 40 % of FLAC's. Opus at the same rate reaches 26 dB and does not preserve lengths exactly. Validation
mixtures and impulse responses are lossless. Utterances are concatenated into files of about ten minutes, because each
file's header takes 4 KB; manifest.csv has the start of each. Held-out speakers and noises are excluded.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from prepare_default_data import HELD_OUT_NOISE, held_out_speakers, read_rows  # noqa: E402

SAMPLE_RATE = 8000
NOISE_COMPRESSION = 0.5
CHUNK = 600 * SAMPLE_RATE
BLOCK = 2**15
COLUMNS = ("path", "speaker", "speaker_known", "split", "n_samples", "corpus", "chunk", "start")
Row = dict[str, Any]


def write_chunk(path: Path, samples: np.ndarray, compression: float) -> None:
    """Writes a FLAC or Vorbis file."""
    if path.suffix == ".flac":
        soundfile.write(path, samples, SAMPLE_RATE, "PCM_16")
        return
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, "VORBIS", format="OGG", compression_level=compression) as file:
        # libsndfile's Vorbis encoder copies the input of each call to the stack.
        for start in range(0, len(samples), BLOCK):
            file.write(samples[start : start + BLOCK])


def write_table(path: Path, rows: Iterable[Row], columns: Sequence[str]) -> None:
    """Writes a CSV table with these columns; other fields are ignored."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def pack(rows: Iterable[tuple[Path, Row]], folder: Path, compression: float, suffix: str = ".ogg") -> None:
    """Concatenates audio files into folder/00.ogg, 01.ogg, ... and writes their manifest.csv.

    Raises:
        ValueError: a file is not mono at 8 kHz; the message names it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table: list[Row] = []
    waves: list[np.ndarray] = []
    filled, chunk = 0, 0
    for path, row in rows:
        wave, rate = soundfile.read(path, dtype="float32")
        if rate != SAMPLE_RATE or wave.ndim != 1:
            raise ValueError(f"{path}: has {rate} Hz and shape {wave.shape}; must be mono at {SAMPLE_RATE} Hz")
        table.append({**row, "n_samples": len(wave), "chunk": f"{chunk:02d}{suffix}", "start": filled})
        waves.append(wave)
        filled += len(wave)
        if filled >= CHUNK:
            write_chunk(folder / f"{chunk:02d}{suffix}", np.concatenate(waves), compression)
            waves, filled, chunk = [], 0, chunk + 1
    if waves:
        write_chunk(folder / f"{chunk:02d}{suffix}", np.concatenate(waves), compression)
    write_table(folder / "manifest.csv", table, COLUMNS)


def split_speech(data: Path) -> tuple[list[tuple[Path, Row]], list[tuple[Path, Row]]]:
    """Distributes the training speakers of every corpus over two parts of about equal length."""
    ages = data / "speech8k_more" / "speechocean762" / "speakers.csv"
    held_out = held_out_speakers(ages) if ages.is_file() else {}
    parts: tuple[list[tuple[Path, Row]], list[tuple[Path, Row]]] = ([], [])
    sizes = [0, 0]
    for corpus in ("speech8k", "speech8k_more"):
        manifest = data / corpus / "manifest.csv"
        if corpus != "speech8k" and not manifest.is_file():
            continue
        groups: dict[str, list[tuple[Path, Row]]] = {}
        for row in read_rows(manifest):
            if row["split"] != "train" or row["speaker"] in held_out:
                continue
            # Files of unknown speakers are independent of each other.
            group = row["speaker"] if row.get("speaker_known") != "0" else row["path"]
            name = f"{corpus}/{Path(row['path']).with_suffix('.wav').as_posix()}"
            packed = {**row, "path": name, "corpus": row.get("corpus", corpus)}
            groups.setdefault(group, []).append((data / corpus / row["path"], packed))
        for group in sorted(groups):
            part = int(sizes[1] < sizes[0])
            parts[part].extend(groups[group])
            sizes[part] += sum(int(row["n_samples"]) for _, row in groups[group])
    return parts


def pack_validation(speech: Path, held_out_list: Path, folder: Path) -> None:
    """Stores the validation mixtures without loss; the two channels of a file are its sources, which add up to it."""
    scratch = folder.with_name("heldout")
    folder.mkdir(parents=True, exist_ok=True)
    tool = [sys.executable, str(ROOT / "tools" / "make_heldout.py")]
    subprocess.run(
        [*tool, "--data", str(speech), "--output", str(scratch), "--list", str(held_out_list)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    table = read_rows(scratch / "validation" / "mixtures.csv")
    write_table(folder / "mixtures.csv", table, list(table[0]))
    for number, row in enumerate(table):
        sources = [soundfile.read(scratch / "validation" / row[f"source_{s}"], dtype="int16")[0] for s in (1, 2)]
        path = folder / f"{number:02d}.flac"
        soundfile.write(path, np.stack(sources, 1), SAMPLE_RATE, "PCM_16", compression_level=1.0)
    shutil.rmtree(scratch)


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes both parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA", help="folder with speech8k and, optionally, the others")
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="folder to write part1 and part2 to")
    parser.add_argument(
        "--compression", type=float, default=0.3, help="of speech, from 0 (best) to 1 (smallest) (default: %(default)s)"
    )
    parser.add_argument(
        "--list",
        type=Path,
        default=ROOT / "configs" / "default_8k_heldout.csv",
        metavar="CSV",
        help="list of held-out mixtures (default: %(default)s)",
    )
    flags = parser.parse_args(arguments)
    for number, rows in enumerate(split_speech(flags.data), 1):
        pack(rows, flags.output / f"part{number}", flags.compression)
    pack_validation(flags.data / "speech8k", flags.list, flags.output / "part1" / "validation")
    for corpus in ("noise8k", "rir8k"):
        manifest = flags.data / corpus / "manifest.csv"
        if not manifest.is_file():
            continue
        common = {"speaker": corpus, "speaker_known": 1, "split": "train", "corpus": corpus}
        recordings = [
            (flags.data / corpus / row["path"], {**common, "path": f"{corpus}/{Path(row['path']).with_suffix('.wav')}"})
            for row in read_rows(manifest)
            if corpus != "noise8k" or not any(fnmatch(row["path"], pattern) for pattern in HELD_OUT_NOISE)
        ]
        suffix = ".flac" if corpus == "rir8k" else ".ogg"
        pack(recordings, flags.output / "part2" / corpus, NOISE_COMPRESSION, suffix)


if __name__ == "__main__":
    main()
