"""`mossformer-jax report`: the ledgers of `separate --report` as a table, CSV or an HTML page."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mossformer_jax.cli.terminal import print_table, warn

if TYPE_CHECKING:
    from mossformer_jax.cli.results import Result

COLUMNS = (
    *("input", "id", "status", "duration", "sample_rate", "real_time_factor", "attempts", "time", "error_class"),
    *("error", "warnings", "outputs", "model", "version", "host"),
)


def add_parser(commands: Any) -> None:
    """Adds the subcommand to the command's parser."""
    parser = commands.add_parser("report", help="show the ledgers of separate --report")
    parser.add_argument(
        "ledgers", nargs="+", metavar="LEDGER", help="file written by separate --report; several are joined"
    )
    parser.add_argument("--csv", metavar="FILE", help="also write one row per recording")
    parser.add_argument("--html", metavar="FILE", help="also write a page with tables and plots")
    parser.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> int:
    from mossformer_jax.atomic import write_atomically
    from mossformer_jax.cli.report_page import page

    records = read_ledgers(options.ledgers)
    print_table(table(records), left=1)
    processes = {(record.get("host"), record.get("process")) for record in records if record["status"] == "done"}
    if processes:
        hosts = len({host for host, _ in processes})
        print(f"{len(processes)} process{'es' * (len(processes) > 1)} on {hosts} host{'s' * (hosts > 1)}")
    warned = sum(bool(record.get("warnings")) for record in records)
    if warned:
        print(f"{warned} recording{'s' * (warned > 1)} with warnings")
    if options.csv:
        write_atomically(Path(options.csv), _csv(records).encode("utf-8", "backslashreplace"))
    if options.html:
        text = page(", ".join(Path(name).name for name in options.ledgers), records, table(records))
        write_atomically(Path(options.html), text.encode("utf-8", "backslashreplace"))
    return 0


def read_ledgers(paths: Sequence[str]) -> list[dict[str, Any]]:
    """The last line about each recording, in the order of their first lines.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file has no line of a ledger.
    """
    from mossformer_jax.cli.ledger import parse_line

    latest: dict[str, dict[str, Any]] = {}
    for path in paths:
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path}: no such file; give a file written by separate --report")
        skipped, found = 0, 0
        with open(path, "rb") as file:
            for line in file:
                record = parse_line(line)
                if record is None:
                    skipped += 1
                    continue
                found += 1
                name = str(record["outputs"][0])
                before = latest.get(name)
                # Ledgers of several shards may overlap, if their number was changed in between.
                if before is None or str(record.get("time", "")) >= str(before.get("time", "")):
                    latest[name] = record
        if skipped and not found:
            raise ValueError(f"{path}: is not a report of separate; give a file written by separate --report")
        if skipped:
            warn(f"{path}: {skipped} incomplete line{'s' * (skipped > 1)} of interrupted processes skipped")
    return list(latest.values())


def table(records: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Recordings and hours by outcome, and the speed of one process."""
    outcomes = [(str(record["status"]), str(record.get("error_class") or "other")) for record in records]
    done = [record for record in records if record["status"] == "done"]
    hours = sum(_number(record, "duration") for record in done) / 3600
    seconds = sum(_number(record, "run_seconds") + _number(record, "compile_seconds") for record in done)
    return _rows(outcomes, hours, seconds, "per process")


def run_table(results: Sequence[Result], seconds: float) -> list[tuple[str, ...]]:
    """The table of one run, which took `seconds`."""
    outcomes = [(result.status, result.error_class or "other") for result in results]
    hours = sum(result.separated.duration for result in results if result.separated is not None) / 3600
    return _rows(outcomes, hours, seconds, "in this run")


def _rows(outcomes: Sequence[tuple[str, str]], hours: float, seconds: float, what: str) -> list[tuple[str, ...]]:
    counts = Counter(status for status, _ in outcomes)
    rows: list[tuple[str, ...]] = [("outcome", "recordings", "hours of audio")]
    rows.append(("done", str(counts["done"]), f"{hours:.3f}"))
    rows.append(("skipped", str(counts["skipped"]), ""))
    for name, count in sorted(Counter(kind for status, kind in outcomes if status == "failed").items()):
        rows.append((f"failed: {name}", str(count), ""))
    rows.append(("total", str(len(outcomes)), ""))
    if hours and seconds:
        rows.append((f"hours of audio per hour {what}", "", f"{hours * 3600 / seconds:.1f}"))
    return rows


def _number(record: dict[str, Any], field: str) -> float:
    number = record.get(field)
    return float(number) if isinstance(number, int | float) else 0.0


def _csv(records: Sequence[dict[str, Any]]) -> str:
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for record in records:
        fields = (record.get(column) for column in COLUMNS)
        writer.writerow("; ".join(map(str, field)) if isinstance(field, list) else field for field in fields)
    return text.getvalue()
