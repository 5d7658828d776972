"""`mossformer-jax compare`: the differences between two evaluations."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mossformer_jax.cli.terminal import print_table, warn

if TYPE_CHECKING:
    from mossformer_jax.evaluation.compare import Comparison

_NUM_NAMED = 5


def add_parser(commands: Any) -> None:
    """Adds the subcommand to the command's parser."""
    parser = commands.add_parser(
        "compare",
        help="compare two evaluations of the same utterances",
        description="Compares the metrics of B with those of A, utterance by utterance, and prints the mean difference "
        "with its 95 % bootstrap interval.",
    )
    parser.add_argument(
        "first", metavar="A", help="metrics.csv written by mossformer-jax evaluate or score, or its folder"
    )
    parser.add_argument("second", metavar="B", help="the same for the second evaluation")
    parser.add_argument(
        "--metric", metavar="NAME", help="metric of the plot and of the list (default: si_sdri if both have it)"
    )
    parser.add_argument(
        "--changed",
        type=int,
        default=10,
        metavar="N",
        help="number of most-changed utterances to list (default: %(default)s)",
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE.png", help="write a scatter plot of B against A, one point per utterance"
    )
    parser.set_defaults(run=_compare, usage_error=parser.error)


def _compare(options: argparse.Namespace) -> int:
    if options.output and not options.output.endswith(".png"):
        options.usage_error(f"argument -o: {options.output} must end in .png")
    if options.output and importlib.util.find_spec("matplotlib") is None:
        raise ValueError("-o needs matplotlib; run: pip install 'mossformer-jax[eval]'")
    from mossformer_jax.evaluation.compare import compare, plot_comparison
    from mossformer_jax.evaluation.report import ROWS_FILE, metrics_in, read_metrics
    from mossformer_jax.scoring import COLUMNS

    paths = [Path(path) / ROWS_FILE if Path(path).is_dir() else Path(path) for path in (options.first, options.second)]
    first, second = map(read_metrics, paths)
    _warn_of_unpaired(options, [str(row["id"]) for row in first], [str(row["id"]) for row in second])
    shared = {name for row in first for name in row}.intersection(name for row in second for name in row)
    comparisons = {name: found for name in metrics_in(shared) if (found := compare(first, second, name)) is not None}
    if not comparisons:
        raise ValueError(
            f"{paths[0]} and {paths[1]} have no utterance and metric in common; compare evaluations of the same data"
        )
    metric = options.metric or ("si_sdri" if "si_sdri" in comparisons else next(iter(comparisons)))
    if metric not in comparisons:
        raise ValueError(f"--metric {metric}: not in both files; choose one of {', '.join(comparisons)}")

    _print_means(comparisons)
    if options.changed > 0:
        print(f"\nLargest changes, {COLUMNS[metric].label}:")
        _print_changed(comparisons[metric], options.changed)
    if options.output:
        plot_comparison(options.output, comparisons[metric], (options.first, options.second))
        print(f"\n{options.output}")
    return 0


def _warn_of_unpaired(options: argparse.Namespace, first: list[str], second: list[str]) -> None:
    for path, ids, others in ((options.first, first, second), (options.second, second, first)):
        if only := sorted(set(ids).difference(others)):
            more = f" and {len(only) - _NUM_NAMED} more" if len(only) > _NUM_NAMED else ""
            warn(f"only in {path}, not compared: {', '.join(only[:_NUM_NAMED])}{more}")


def _print_means(comparisons: dict[str, Comparison]) -> None:
    from mossformer_jax.scoring import COLUMNS

    rows: list[tuple[str, ...]] = [("", "A", "B", "B - A", "95 % interval", "B higher")]
    for name, each in comparisons.items():
        low, high = each.interval_95
        higher = f"{(each.differences > 0).sum():,} of {len(each.ids):,}"
        means = f"{each.first.mean():.3f}", f"{each.second.mean():.3f}", f"{each.differences.mean():+.3f}"
        rows.append((COLUMNS[name].label, *means, f"{low:+.3f} to {high:+.3f}", higher))
    print_table(rows, left=1)


def _print_changed(comparison: Comparison, count: int) -> None:
    rows: list[tuple[str, ...]] = [("id", "A", "B", "B - A")]
    for place in comparison.most_changed(count):
        figures = comparison.first[place], comparison.second[place]
        rows.append((comparison.ids[place], *(f"{x:.3f}" for x in figures), f"{comparison.differences[place]:+.3f}"))
    print_table(rows, left=1)
