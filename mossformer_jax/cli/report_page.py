"""The HTML page of `mossformer-jax report`: one file with tables and plots, without scripts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import Any

from mossformer_jax.figures.html import document

_LONGEST_TABLE = 1000
_BARS = 20
_WIDTH, _LABEL, _LINE = 640, 180, 22


def page(title: str, records: Sequence[dict[str, Any]], table: Sequence[tuple[str, ...]]) -> str:
    """The page.

    Args:
        title: names the ledgers.
        records: the last line about each recording.
        table: the summary, with a header.
    """
    failed = [record for record in records if record["status"] == "failed"]
    warned = [record for record in records if record["status"] == "done" and record.get("warnings")]
    parts = [
        _table(table),
        _histogram("Duration in seconds", [record.get("duration") for record in records]),
        _histogram("Real-time factor", [record.get("real_time_factor") for record in records]),
        _bars("Failures by class", Counter(str(record.get("error_class") or "other") for record in failed)),
        _bars(
            "Recordings done, by hour",
            dict(sorted(Counter(str(record.get("time", ""))[:13] for record in records if _is_done(record)).items())),
        ),
        _list("Failed", [(record["input"], record.get("error")) for record in failed]),
        _list("Warnings", [(record["input"], "; ".join(map(str, record["warnings"]))) for record in warned]),
    ]
    return document(title, parts)


def _is_done(record: dict[str, Any]) -> bool:
    return record["status"] == "done"


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    header, *body = rows
    lines = ["<table><tr><th>" + "<th>".join(map(escape, header))]
    lines += ["<tr><td>" + "<td>".join(map(escape, row)) for row in body]
    return "\n".join([*lines, "</table>"])


def _histogram(title: str, values: Sequence[Any]) -> str:
    """Counts in intervals between the 0.5 and the 99.5 percentile; the rest is in the first and the last one."""
    numbers = sorted(float(value) for value in values if isinstance(value, int | float))
    if len(numbers) < 2:
        return ""
    low, high = (numbers[round(share * (len(numbers) - 1))] for share in (0.005, 0.995))
    width = (high - low) / _BARS
    if width <= 0:
        return _bars(title, {f"{low:.3g}": len(numbers)})
    counts = Counter(min(max(int((number - low) / width), 0), _BARS - 1) for number in numbers)
    return _bars(
        title, {f"{low + bar * width:.3g} to {low + (bar + 1) * width:.3g}": counts[bar] for bar in range(_BARS)}
    )


def _bars(title: str, counts: dict[str, int] | Counter[str]) -> str:
    if not counts:
        return ""
    largest = max(counts.values())
    lines = [f'<h2>{escape(title)}</h2><svg width="{_WIDTH}" height="{_LINE * len(counts)}" role="img">']
    for line, (name, count) in enumerate(counts.items()):
        width = (_WIDTH - _LABEL - 80) * count / largest
        y = _LINE * line
        lines.append(
            f'<text x="{_LABEL - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="{_LABEL}" y="{y + 3}" width="{width:.1f}" height="{_LINE - 6}" fill="#47a"/>'
            f'<text x="{_LABEL + width + 6:.1f}" y="{y + 15}">{count}</text>'
        )
    return "\n".join([*lines, "</svg>"])


def _list(title: str, rows: Sequence[tuple[str, str | None]]) -> str:
    if not rows:
        return ""
    lines = [f'<h2>{escape(title)}</h2><table class="words">']
    lines += [f"<tr><td>{escape(name)}<td>{escape(text or '')}" for name, text in rows[:_LONGEST_TABLE]]
    more = f"<p>and {len(rows) - _LONGEST_TABLE} more (--csv lists all)</p>" if len(rows) > _LONGEST_TABLE else ""
    return "\n".join([*lines, f"</table>{more}"])
