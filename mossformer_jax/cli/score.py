"""`mossformer-jax score`: the metrics of separated files against their references."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mossformer_jax.cli.arguments import METRICS_HELP, whole_number
from mossformer_jax.cli.devices import add_device_options, prepare_jax
from mossformer_jax.cli.terminal import print_table, warn

if TYPE_CHECKING:
    from mossformer_jax.evaluation.separated_files import FileScores

_NUM_NAMED = 5


def add_parser(commands: Any) -> None:
    """Adds the subcommand to the command's parser."""
    parser = commands.add_parser(
        "score",
        help="compute SI-SDR, SDR, STOI and PESQ of separated files",
        description="Computes the metrics of separated sources, for one mixture or for folders of them. The estimates "
        "may be in any order; the permutation with the best SI-SDR is used.",
        epilog="PLACE is a folder in which each file has the name of its mixture, or a quoted path template such as "
        "'out/{id}_s{k}.wav', where {id} is the name of the mixture and {k} the number of the source.",
    )
    one = parser.add_argument_group("one mixture")
    one.add_argument("--mixture", metavar="M.wav")
    one.add_argument("--reference", nargs="+", metavar="R.wav", help="one file per true source")
    one.add_argument("--estimate", nargs="+", metavar="E.wav", help="one file per estimate, in any order")
    many = parser.add_argument_group("many mixtures, paired by name")
    many.add_argument("--mixtures", metavar="PLACE")
    many.add_argument("--references", nargs="+", metavar="PLACE", help="one per source, or one template with {k}")
    many.add_argument("--estimates", nargs="+", metavar="PLACE", help="the same for the estimates, in any order")
    many.add_argument("-o", "--output", metavar="DIR", help="folder for metrics.csv and summary.json (default: none)")
    many.add_argument(
        "--jobs",
        type=whole_number(1),
        # On a cluster, a job is often given only some of the machine's cores.
        default=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        metavar="N",
        help="processes for metrics other than si_sdr (default: %(default)s)",
    )
    parser.add_argument(
        "--metrics",
        default="si_sdr",
        metavar="NAMES",
        help=METRICS_HELP,
    )
    parser.add_argument(
        "--trim",
        action="store_true",
        help="cut the files of a mixture to the shortest one, if their lengths differ by up to 8 s",
    )
    parser.add_argument(
        "--align", action="store_true", help="undo a constant delay of the estimates (a delay is reported in any case)"
    )
    add_device_options(parser)
    parser.set_defaults(run=_score, usage_error=parser.error)


def _score(options: argparse.Namespace) -> int:
    one = (options.mixture, options.reference, options.estimate)
    many = (options.mixtures, options.references, options.estimates)
    if not (all(one) and not any(many)) and not (all(many) and not any(one)):
        options.usage_error("give --mixture, --reference and --estimate, or --mixtures, --references and --estimates")
    if all(one) and options.output:
        options.usage_error("-o needs --mixtures; the metrics of a single mixture are only printed")
    prepare_jax(options)
    return _score_one(options) if all(one) else _score_many(options)


def _score_one(options: argparse.Namespace) -> int:
    from mossformer_jax.evaluation.pairing import SeparatedFiles
    from mossformer_jax.evaluation.report import format_figure
    from mossformer_jax.evaluation.separated_files import score_files
    from mossformer_jax.scoring import COLUMNS, parse_metrics

    if len(options.reference) != len(options.estimate):
        raise ValueError(
            f"--reference names {len(options.reference)} files, --estimate {len(options.estimate)}; "
            "give the same number"
        )
    files = SeparatedFiles("mixture", options.mixture, tuple(options.reference), tuple(options.estimate))
    (scores,) = score_files(
        [files], parse_metrics(options.metrics), trim=options.trim, align=options.align, on_warning=warn
    )
    _check_silent_references([scores])
    _report_delays([scores], options)
    rows: list[tuple[str, ...]] = [("reference", "estimate", *(COLUMNS[name].label for name in scores.figures))]
    for source, estimate in enumerate(scores.permutation):
        names = Path(files.references[source]).name, Path(files.estimates[estimate]).name
        rows.append((*names, *(format_figure(figures[source], name) for name, figures in scores.figures.items())))
    means = (format_figure(sum(figures) / len(figures), name) for name, figures in scores.figures.items())
    print_table([*rows, ("mean", "", *means)], left=2)
    return 0


def _score_many(options: argparse.Namespace) -> int:
    from mossformer_jax.evaluation.pairing import pair_files
    from mossformer_jax.evaluation.report import (
        ROWS_FILE,
        SUMMARY_FILE,
        summarize,
        summary_table,
        write_metrics,
        write_summary,
    )
    from mossformer_jax.evaluation.separated_files import score_files
    from mossformer_jax.scoring import parse_metrics

    metrics = parse_metrics(options.metrics)
    utterances, left_out = pair_files(options.mixtures, options.references, options.estimates)
    for line in left_out:
        warn(line)
    output = Path(options.output) if options.output else None
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
    passes = 1 if metrics == ("si_sdr",) else 2
    with _progress_bar(len(utterances) * passes) as advance:
        scores = score_files(
            utterances,
            metrics,
            jobs=options.jobs,
            on_scored=advance,
            trim=options.trim,
            align=options.align,
            on_warning=warn,
        )
    _check_silent_references(scores)
    _report_delays(scores, options)
    rows = [each.row() for each in scores]
    summary = summarize(rows, mixtures=options.mixtures, references=options.references, estimates=options.estimates)
    if output is not None:
        write_metrics(output / ROWS_FILE, rows)
        write_summary(output / SUMMARY_FILE, summary)
    print_table(summary_table(summary), left=1)
    if output is not None:
        print(f"{output / ROWS_FILE}\n{output / SUMMARY_FILE}")
    return 0


def _check_silent_references(scores: Sequence[FileScores]) -> None:
    """Warns of silent references.

    Raises:
        ValueError: every utterance has one.
    """
    silent = [
        (path, each.files.id)
        for each in scores
        for path, is_silent in zip(each.files.references, each.silent, strict=True)
        if is_silent
    ]
    if len({id for _, id in silent}) == len(scores):
        raise ValueError(
            f"{silent[0][0]}: is silent, and SI-SDR is undefined for a silent reference; remove this mixture"
        )
    for path, id in silent[:_NUM_NAMED]:
        warn(f"{path}: is silent, and SI-SDR is undefined for a silent reference; {id} is excluded from the means")
    if len(silent) > _NUM_NAMED:
        warn(f"{len(silent) - _NUM_NAMED} more references are silent; their mixtures are excluded from the means")


def _report_delays(scores: Sequence[FileScores], options: argparse.Namespace) -> None:
    from mossformer_jax.evaluation.delays import describe_delays

    line = describe_delays([each.delay for each in scores], scores[0].sample_rate, undone=options.align)
    if line is not None:
        warn(line)


@contextmanager
def _progress_bar(total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr if that is a terminal; yields the function that advances it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("", total=total)
        yield lambda count: progress.advance(task, count)
