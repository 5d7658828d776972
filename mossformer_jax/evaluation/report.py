"""The results of an evaluation: `metrics.csv`, one row per utterance, and `summary.json`, one section per metric.

A row is a dict with `id`, `seconds`, `speakers`, `genders`, `silent`, the mean of every metric over the sources under
the metric's name (`si_sdr`), and the metric of each source with the number of the reference (`si_sdr_1`). Unknown and
undefined values are None in a row and empty cells in the file.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mossformer_jax.atomic import write_atomically
from mossformer_jax.data.text_tables import read_csv
from mossformer_jax.scoring import COLUMNS

Row = dict[str, str | float | None]

ROWS_FILE = "metrics.csv"
SUMMARY_FILE = "summary.json"
NUM_WORST = 10
# Bootstrap resamplings; the ends of the interval are then accurate to about 2 % of its width.
NUM_RESAMPLINGS = 2000
_TEXTS = ("id", "speakers", "genders", "silent")
# Smaller differences are rounding errors of float32.
_DECIMALS = 4


def utterance_row(
    id: str,
    seconds: float,
    figures: Mapping[str, Sequence[float]],
    *,
    speakers: Sequence[str] = (),
    genders: Sequence[str] = (),
    silent: Sequence[bool] = (),
) -> Row:
    """Makes the row of an utterance.

    Args:
        id: id of the utterance.
        seconds: its duration.
        figures: the values of each metric, one per source in the order of the references; NaN where undefined.
        speakers: the speaker of each source, if known.
        genders: F or M for each speaker, if all are known.
        silent: whether each reference is silent.
    """
    row: Row = {
        "id": id,
        "seconds": round(seconds, _DECIMALS),
        "speakers": " ".join(speakers),
        "genders": "".join(sorted(genders)),
        "silent": " ".join(str(number) for number, is_silent in enumerate(silent, 1) if is_silent),
    }
    for name, values in figures.items():
        row[name] = _rounded(float(np.mean(values)))
    for number in range(max(map(len, figures.values()), default=0)):
        for name, values in figures.items():
            row[f"{name}_{number + 1}"] = _rounded(values[number])
    return row


def format_rows(rows: Iterable[Row], columns: Sequence[str], *, header: bool) -> str:
    """Formats rows as lines of CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_metrics(path: str | os.PathLike[str], rows: Sequence[Row]) -> None:
    """Writes rows with the same columns as CSV, atomically."""
    write_atomically(Path(path), format_rows(rows, list(rows[0]), header=True).encode())


def read_metrics(path: str | os.PathLike[str]) -> list[Row]:
    """Reads the rows that `write_metrics` wrote.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not a table of metrics; the message names the line.
    """
    columns, lines = read_csv(path, "pass a metrics.csv written by `mossformer-jax evaluate` or `mossformer-jax score`")
    if "id" not in columns or not metrics_in(columns):
        raise ValueError(
            f"{path}: found the columns {', '.join(columns) or '(none)'}; required are id and at least one of "
            f"{', '.join(COLUMNS)}"
        )
    rows, ids = [], set()
    for line, cells in lines:
        try:
            row: Row = {name: cell if name in _TEXTS else _number(cell) for name, cell in cells.items()}
        except ValueError as error:
            raise ValueError(
                f"{path}, line {line}: {error}; all columns except {', '.join(_TEXTS)} must hold finite numbers"
            ) from None
        if row["id"] in ids:
            raise ValueError(f"{path}, line {line}: the id {row['id']!r} occurs twice; ids must be unique")
        ids.add(row["id"])
        rows.append(row)
    return rows


def metrics_in(columns: Iterable[str]) -> list[str]:
    """The metrics among the columns, in the order of `scoring.COLUMNS`."""
    present = set(columns)
    return [name for name in COLUMNS if name in present]


def defined(rows: Sequence[Row], metric: str) -> dict[str, float]:
    """The values of a metric by utterance id, for the utterances where it is defined."""
    return {str(row["id"]): value for row in rows if isinstance(value := row[metric], float)}


def summarize(rows: Sequence[Row], **facts: Any) -> dict[str, Any]:
    """Makes the contents of `summary.json`: counts, the given facts, and one section per metric.

    A section has count (the number of utterances where the metric is defined), mean, median, std, interval_95 (of the
    mean), worst (the ids of the ten lowest scores, lowest first) and, for metrics in dB, share_below_0_db. If genders
    are known, the summary also has `si_sdri_by_genders`.
    """
    silent = [row["id"] for row in rows if row["silent"]]
    summary: dict[str, Any] = {
        "count": len(rows),
        "seconds": sum(row["seconds"] for row in rows if isinstance(row["seconds"], float)),
        "silent_references": {"count": len(silent), "ids": silent},
        **facts,
    }
    for metric in metrics_in(rows[0]):
        summary[metric] = _section(defined(rows, metric), in_db=COLUMNS[metric].unit == "dB")
    pairs = {str(row["genders"]) for row in rows} - {""}
    if pairs and "si_sdri" in summary:
        summary["si_sdri_by_genders"] = {
            pair: _section(defined([row for row in rows if row["genders"] == pair], "si_sdri"), in_db=True)
            for pair in sorted(pairs)
        }
    return summary


def summary_table(summary: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A summary as a table of text to print: a header, then one row per metric."""
    table: list[tuple[str, ...]] = [("", "mean", "95 % interval", "median", "std", "utterances")]
    for name in metrics_in(summary):
        section = summary[name]
        mean, median, std = (format_figure(section.get(key, math.nan), name) for key in ("mean", "median", "std"))
        low, high = (format_figure(end, name) for end in section.get("interval_95", (math.nan, math.nan)))
        table.append((COLUMNS[name].label, mean, f"{low} to {high}", median, std, f"{section['count']:,}"))
    return table


def format_figure(figure: float, metric: str) -> str:
    """Formats a score with as many decimals as are significant; a dash if it is NaN."""
    if math.isnan(figure):
        return "-"
    decimals = COLUMNS[metric].decimals
    return f"{round(figure, decimals) + 0.0:.{decimals}f}"  # -0.0 + 0.0 is 0.0


def write_summary(path: str | os.PathLike[str], summary: Mapping[str, Any]) -> None:
    """Writes a summary as JSON, atomically."""
    write_atomically(Path(path), (json.dumps(summary, indent=2, allow_nan=False) + "\n").encode())


def bootstrap_interval(values: Float[np.ndarray, " n"], *, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of the mean, reproducible for the same values and seed."""
    rng, values = np.random.default_rng(seed), np.asarray(values, np.float64)
    means = [rng.choice(values, len(values)).mean() for _ in range(NUM_RESAMPLINGS)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _section(by_id: Mapping[str, float], in_db: bool) -> dict[str, Any]:
    if not by_id:
        return {"count": 0}
    values = np.array(list(by_id.values()))
    section = {
        "count": len(values),
        "mean": float(values.mean()),
        "median": float(np.median(values)),
        "std": float(values.std()),
        "interval_95": list(bootstrap_interval(values)),
        "worst": sorted(by_id, key=by_id.__getitem__)[:NUM_WORST],
    }
    return section | ({"share_below_0_db": float(np.mean(values < 0))} if in_db else {})


def _number(cell: str) -> float | None:
    """The number in a cell; None for an empty cell, and for NaN, which other tools write for undefined values."""
    number = float(cell or "nan")
    if math.isinf(number):
        raise ValueError(f"{cell} is not finite")
    return None if math.isnan(number) else number


def _rounded(figure: float) -> float | None:
    return None if math.isnan(figure) else round(float(figure), _DECIMALS)
