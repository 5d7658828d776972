"""`mossformer-jax separate`: separates the speakers of recordings into files."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mossformer_jax.cli.devices import is_on_cpu, prepare_jax
from mossformer_jax.cli.results import Result, as_json, left_out_as_json, summary, unreadable_files
from mossformer_jax.cli.separate_options import add_options, load_separator, output_options
from mossformer_jax.cli.terminal import PROGRAM, complain, one_line, warn

if TYPE_CHECKING:
    from mossformer_jax.cli.inputs import InputRecording, LeftOut
    from mossformer_jax.cli.jobs import Job
    from mossformer_jax.cli.ledger import Ledger


def add_parser(commands: Any) -> None:
    """Adds the subcommand to the command's parser."""
    parser = commands.add_parser("separate", help="separate the speakers of recordings into files")
    add_options(parser)
    parser.set_defaults(run=_separate, usage_error=parser.error)


def _separate(options: argparse.Namespace) -> int:
    _check_usage(options)
    from mossformer_jax.cli.attempt import Attempts
    from mossformer_jax.cli.inputs import find_recordings
    from mossformer_jax.cli.jobs import plan_jobs
    from mossformer_jax.cli.ledger import open_ledger
    from mossformer_jax.cli.manifests import read_manifest
    from mossformer_jax.cli.progress import ProgressBar
    from mossformer_jax.cli.run import plan_run, run_jobs
    from mossformer_jax.cli.shards import AUTO, in_shard, select, shard_of_cluster
    from mossformer_jax.cli.workers import make_workers
    from mossformer_jax.weights.store import read_config

    if options.shard == AUTO:
        options.shard = shard_of_cluster()
    output = output_options(options)
    folder = Path(options.output) if options.output else None
    listed = read_manifest(options.manifest) if options.manifest else []
    left_out: list[LeftOut] = []
    recordings = find_recordings(options.inputs, folder, left_out, listed)
    if options.shard:
        left_out = in_shard(left_out, options.shard)
    _report_left_out(left_out, options)
    if not recordings:
        return _conclude([], left_out, 0, options)
    prepare_jax(options)
    if options.offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    separator = None
    if options.jobs > 1 and is_on_cpu(options):
        num_sources = read_config(options.model).num_sources
    else:
        separator = load_separator(options)
        num_sources = separator.config.num_sources
    jobs = plan_jobs(recordings, num_sources, folder, options.name, output.format, options.plot)
    _warn_of_skipped_sources(recordings, jobs)
    if options.shard:
        jobs = select(jobs, options.shard)
    if folder is not None:
        _make_folder(folder)

    ledger = open_ledger(options)
    start = time.monotonic()
    plan = plan_run(jobs, ledger, overwrite=options.overwrite)
    todo = [job for job, known in plan if known is None]
    results: list[Result] = []
    try:
        with ProgressBar(todo, shown=sys.stderr.isatty() and not options.quiet) as bar:
            attempts = None if separator is None else Attempts(separator, output, options, bar, ledger)
            with closing(make_workers(attempts, options, bar, ledger)) as workers:
                for result in run_jobs(plan, workers, options.retries):
                    _report(result, options)
                    results.append(result)
    except KeyboardInterrupt:
        done = sum(result.status == "done" for result in results)
        print(f"{PROGRAM}: interrupted: {done} of {len(todo)} recordings done", file=sys.stderr)
        raise
    status = _conclude(results, left_out, len(jobs), options)
    if ledger is not None:
        _conclude_ledger(results, ledger, time.monotonic() - start, options)
    return status


def _check_usage(options: argparse.Namespace) -> None:
    """Exits with a usage error if options contradict each other.

    Raises:
        ValueError: a package that an option needs is missing.
    """
    from mossformer_jax.cli.jobs import check_template

    if not options.inputs and not options.manifest:
        options.usage_error("the following arguments are required: INPUT or --manifest")
    if (options.format, options.subtype) == ("flac", "FLOAT"):
        options.usage_error(
            "--subtype FLOAT cannot be written with --format flac; use PCM_16 or PCM_24, or --format wav"
        )
    if options.verify and options.report is None:
        options.usage_error("--verify needs --report FILE, where the digests are stored")
    try:
        check_template(options.name)
    except ValueError as error:
        options.usage_error(f"--name: {error}")
    if options.plot and importlib.util.find_spec("matplotlib") is None:
        raise ValueError("--plot needs matplotlib; run: pip install 'mossformer-jax[eval]'")


def _conclude_ledger(results: Sequence[Result], ledger: Ledger, seconds: float, options: argparse.Namespace) -> None:
    """Warns of recordings that another model separated, and prints the table of the run."""
    from mossformer_jax.cli.report import run_table
    from mossformer_jax.cli.terminal import print_table

    if num_other_model := sum(result.other_model for result in results):
        warn(
            f"{ledger.path}: {num_other_model} of the recordings that were skipped were separated with another model; "
            "--overwrite separates them again"
        )
    if not options.json:
        print_table(run_table(results, seconds), left=1)


def _warn_of_skipped_sources(recordings: Sequence[InputRecording], jobs: Sequence[Job]) -> None:
    """Warns of files given by name that are not separated because this run writes a source with that name."""
    inputs = {job.input for job in jobs}
    if left_out := [named.location for named in recordings if not named.found and named.location not in inputs]:
        others = f" and {len(left_out) - 1} more" if len(left_out) > 1 else ""
        warn(f"{left_out[0]}{others}: skipped, because this run writes a source with that name")


def _make_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: is a file; name a folder for the sources")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{folder}: cannot be created ({error.strerror}); name another folder with -o") from error


def _report(result: Result, options: argparse.Namespace) -> None:
    from mossformer_jax.cli.download import without_password

    name = without_password(result.job.input)
    for warning in result.warnings:
        warn(f"{one_line(name)}: {warning}")
    if result.error is not None:
        complain(result.error)
    if options.json:
        print(as_json(result), flush=True)
    elif result.status == "done" and not options.quiet:
        # If the sources already existed, only the plot was written, which is the last file.
        for path in result.job.written if result.separated else result.job.written[-1:]:
            print(path, flush=True)


def _report_left_out(left_out: Sequence[LeftOut], options: argparse.Namespace) -> None:
    """Reports each input without recordings, and all files that cannot be read in a single line."""
    from mossformer_jax.audio.media import can_read_media
    from mossformer_jax.cli.download import without_password

    for each in left_out:
        if not each.is_file:
            complain(one_line(each.reason))
        if options.json:
            print(left_out_as_json(each), flush=True)
    files = [without_password(each.location) for each in left_out if each.is_file]
    if files:
        say = warn if options.ignore_unreadable else complain
        install = "" if can_read_media() else "run: pip install 'mossformer-jax[video]', or "
        advice = f"{install}convert them to WAV or FLAC, for example: ffmpeg -i {files[0]} OUTPUT.wav"
        say(one_line(f"{unreadable_files(files)}; {advice}"))


def _conclude(results: Sequence[Result], left_out: Sequence[LeftOut], planned: int, options: argparse.Namespace) -> int:
    """Prints the summary; returns the exit status: 1 if a recording failed or, unless ignored, cannot be read."""
    files = [each.location for each in left_out if each.is_file]
    failed = any(result.error is not None for result in results) or len(files) < len(left_out)
    if not options.json and (planned > 1 or files or not failed):
        print(summary(results, files), flush=True)
    if len(results) < planned:
        complain(
            f"stopped, because the other recordings would fail too; {planned - len(results)} of {planned} not started"
        )
    return 1 if failed or (files and not options.ignore_unreadable) else 0
