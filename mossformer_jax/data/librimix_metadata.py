"""LibriMix's generation metadata: which utterances and which noise, at which gains, make up a mixture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mossformer_jax.data.text_tables import read_csv


@dataclass(frozen=True)
class Part:
    """A file of a mixture, with the factor on its samples."""

    path: str
    gain: float


@dataclass(frozen=True)
class MixtureRecipe:
    """One row of the metadata: how a mixture is made.

    Attributes:
        id: the names of the utterances, joined.
        sources: the utterances; their paths are relative to LibriSpeech's folder.
        noise: the noise, relative to WHAM!'s folder; None if it was not read.
    """

    id: str
    sources: tuple[Part, ...]
    noise: Part | None


def read_metadata(path: Path, with_noise: bool) -> list[MixtureRecipe]:
    """Reads one of LibriMix's generation CSVs.

    Args:
        path: the CSV file.
        with_noise: whether to read the columns of the noise, which are then required.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not LibriMix's generation metadata, has no rows, or a path or gain is not valid.
    """
    columns, rows = read_csv(path, "give one of the CSVs in LibriMix's metadata folder (libri2mix_dev-clean.csv, ...)")
    num_sources = 0
    while {f"source_{num_sources + 1}_path", f"source_{num_sources + 1}_gain"} <= set(columns):
        num_sources += 1
    needed = ["mixture_ID", *(["noise_path", "noise_gain"] if with_noise else [])]
    missing = [column for column in needed if column not in columns]
    if num_sources == 0 or missing:
        raise ValueError(
            f"{path}: has the columns {', '.join(columns) or '(empty)'}; LibriMix's generation metadata (not its "
            f"_info.csv files) have {', '.join([*needed, 'source_1_path', 'source_1_gain', '...'])}"
        )
    if not rows:
        raise ValueError(f"{path}: has no rows below its header; copy it again from LibriMix's metadata folder")
    return [_recipe(row, num_sources, with_noise, f"{path}, line {line}") for line, row in rows]


def _recipe(row: dict[str, str], num_sources: int, with_noise: bool, place: str) -> MixtureRecipe:
    def part(name: str) -> Part:
        path, gain = row[f"{name}_path"], row[f"{name}_gain"]
        try:
            number = float(gain)
        except ValueError:
            number = math.nan
        if not PurePosixPath(path).parts or not math.isfinite(number):
            raise ValueError(f"{place}: {name}_path={path!r}, {name}_gain={gain!r} must be a path and a number")
        return Part(str(PurePosixPath(path)), number)

    sources = tuple(part(f"source_{number + 1}") for number in range(num_sources))
    return MixtureRecipe(row["mixture_ID"], sources, part("noise") if with_noise else None)
