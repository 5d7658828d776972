"""`mossformer-jax evaluate`: the metrics that papers report, for a model on a test set."""

from __future__ import annotations

import argparse
import datetime
import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mossformer_jax import __version__
from mossformer_jax.cli.arguments import METRICS_HELP, whole_number
from mossformer_jax.cli.devices import add_device_options, add_host_options, join_hosts, prepare_jax
from mossformer_jax.cli.terminal import print_table, warn
from mossformer_jax.digests import sha256_of

if TYPE_CHECKING:
    from mossformer_jax.evaluation.run import TestSet
    from mossformer_jax.model import ModelConfig

EXTRAS = "train,eval"
DEMO_CONFIG = "demo"
EXAMPLES = """\
examples:
  mossformer-jax evaluate                                     the shipped model on synthetic voices
  mossformer-jax evaluate --config libri2mix --config.data.root=/data --run runs/libri2mix
  mossformer-jax evaluate --config libri2mix --config.data.root=/data --model MODEL_FOLDER --metrics si_sdr,sdr

Writes metrics.csv (one row per utterance), summary.json and report.html. The same command resumes an interrupted
evaluation. docs/evaluation.md defines every metric.
"""


def add_parser(commands: Any) -> None:
    """Adds the subcommand to the command's parser."""
    parser = commands.add_parser(
        "evaluate",
        help="evaluate a model on a test set",
        description="Evaluates a model on a test set: SI-SDRi, SDRi, STOI, PESQ.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--config",
        metavar="CONFIG",
        help="config with the data: the name of a shipped config, or a file (default: that of --run, else demo)",
    )
    model = parser.add_mutually_exclusive_group()
    model.add_argument(
        "--run", dest="run_folder", type=Path, metavar="RUN", help="folder of a training run; uses its best weights"
    )
    model.add_argument("--model", default="default", help="model folder, published name, or OWNER/NAME")
    add("--split", choices=("test", "validation"), default="test", help="part of the config's data")
    add(
        "--output",
        type=Path,
        metavar="DIR",
        help="default: RUN/evaluation/SPLIT, with --config RUN/evaluation/CONFIG_SPLIT, without --run "
        "evaluation/MODEL/CONFIG_SPLIT",
    )
    add("--metrics", default="si_sdr", metavar="NAMES", help=METRICS_HELP)
    number = whole_number(0)
    add("--save-audio", type=number, default=0, metavar="N", help="write the sources of the first N utterances")
    add(
        "--batch-size",
        type=whole_number(1),
        metavar="B",
        help="utterances per batch over all devices (default: depends on the device)",
    )
    add("--num-workers", type=number, default=0, metavar="N", help="processes that read audio (default: threads)")
    add("--speakers", metavar="FILE", help="table of speakers with their genders (default: LibriSpeech's, if present)")
    add_device_options(parser)
    add_host_options(parser)
    parser.set_defaults(
        run=_evaluate, takes_overrides=True, extras=EXTRAS, interrupted="the same command resumes the evaluation"
    )


def _evaluate(flags: argparse.Namespace) -> int:
    import jax

    from mossformer_jax import sharding
    from mossformer_jax.evaluation.examples import write_examples
    from mossformer_jax.evaluation.progress import EvaluationBar
    from mossformer_jax.evaluation.run import evaluate_model
    from mossformer_jax.evaluation.scorer import Scorer
    from mossformer_jax.weights.folders import WEIGHTS_FILE
    from mossformer_jax.weights.store import load_parameters, model_folder

    join_hosts(flags)
    prepare_jax(flags)
    folder = model_folder(flags.run_folder or flags.model)
    model_config, parameters = load_parameters(folder)
    options = data_options(flags, flags.overrides)
    test_set = open_test_set(flags, options, model_config)
    mesh = sharding.make_mesh()
    sharding.check_rows("batch-size", test_set.rows, mesh)
    scorer = Scorer(model_config, parameters, mesh)
    # Everything that the metrics depend on: an interrupted evaluation is resumed only if all of this is the same.
    identity = {
        "weights_sha256": sha256_of(folder / WEIGHTS_FILE),
        "model_config": model_config.to_dict(),
        "data": {"split": flags.split, **options},
        "metrics": list(test_set.metrics),
        "genders_sha256": hashlib.sha256(json.dumps(test_set.genders, sort_keys=True).encode()).hexdigest(),
        "version": __version__,
    }
    name, output = str(flags.run_folder or flags.model), output_folder(flags)
    report = importlib.util.find_spec("matplotlib") is not None
    if not report and jax.process_index() == 0:
        warn(f"report.html is not written: it needs matplotlib; run: pip install 'mossformer-jax[{EXTRAS}]'")
    with EvaluationBar(len(test_set.mixtures), shown=sys.stderr.isatty() and jax.process_index() == 0) as bar:
        evaluation = evaluate_model(
            scorer,
            test_set,
            output,
            identity=identity,
            facts=model_facts(name, folder, model_config),
            note=bar.note,
            on_rows=bar.advance,
        )
    title = f"{name} on {describe(options)}" if report else None
    write_examples(scorer, test_set, evaluation, output, title, flags.save_audio)
    if evaluation is not None:
        evaluation.partial.remove()
        print_summary(evaluation.summary, output)
    return 0


def model_facts(name: str, folder: Path, model_config: ModelConfig) -> dict[str, Any]:
    """Entries of the summary that do not affect the metrics.

    Args:
        name: the model as given to the command.
        folder: its folder. Models written by a training have the step in result.json.
        model_config: its config.
    """
    import jax

    from mossformer_jax.training.output import read_result
    from mossformer_jax.weights.parameters import count_parameters

    return {
        "model": name,
        "step": read_result(folder).get("step"),
        "parameters": count_parameters(model_config),
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "device": jax.devices()[0].device_kind,
    }


def output_folder(flags: argparse.Namespace) -> Path:
    """The folder to write to: --output, or one per model, config and split."""
    if flags.output is not None:
        return flags.output
    if flags.run_folder and not flags.config:
        return flags.run_folder / "evaluation" / flags.split
    file, _, variant = (flags.config or DEMO_CONFIG).partition(":")
    data = "_".join(filter(None, [Path(file).stem, variant, flags.split]))
    if flags.run_folder:
        return flags.run_folder / "evaluation" / data
    *_, parent, name = Path(os.path.abspath(flags.model)).parts
    return Path("evaluation", f"{parent}_{name}" if name in ("best", "last") else name, data)


def data_options(flags: argparse.Namespace, overrides: Sequence[str]) -> dict[str, Any]:
    """The options of the data that the flags select.

    Raises:
        ValueError: the config has no such split, or a saved config is overridden.
    """
    from ml_collections import ConfigDict

    from mossformer_jax.training.configuration import load_config, read_saved_config

    saved = flags.run_folder is not None and flags.config is None
    if saved and overrides:
        raise ValueError(f"{overrides[0]}: the config saved with a run cannot be overridden; add --config NAME_OR_FILE")
    path = str(flags.run_folder / "config.json") if saved else flags.config or DEMO_CONFIG
    config = read_saved_config(path) if saved else load_config(path, overrides)
    data = config.get("data")
    options = data.get(flags.split) if isinstance(data, ConfigDict) else None
    if not isinstance(options, ConfigDict) or "layout" not in options:
        raise ValueError(f"{path}: has no data.{flags.split} with a layout; choose another --split or --config")
    return options.to_dict()


def open_test_set(flags: argparse.Namespace, options: dict[str, Any], model_config: ModelConfig) -> TestSet:
    """Opens the data, and checks that the model fits them.

    Raises:
        ValueError: the model has another number of sources or another sample rate.
    """
    from mossformer_jax.data.layouts import open_mixtures
    from mossformer_jax.evaluation.run import TestSet
    from mossformer_jax.evaluation.speakers import find_genders, read_genders
    from mossformer_jax.scoring import parse_metrics

    mixtures = open_mixtures(**options)
    for name in ("num_sources", "sample_rate"):
        found, wanted = getattr(mixtures, name), getattr(model_config, name)
        if found != wanted:
            raise ValueError(
                f"data.{flags.split} has {name}={found}, but the model {flags.run_folder or flags.model} has {wanted}; "
                "choose a model and a config that match"
            )
    return TestSet(
        mixtures,
        metrics=parse_metrics(flags.metrics, mixtures.sample_rate),
        genders=read_genders(flags.speakers) if flags.speakers else find_genders(options),
        batch_size=flags.batch_size,
        num_workers=flags.num_workers,
    )


def describe(options: dict[str, Any]) -> str:
    """A short description of the data, for the title of the report."""
    return " ".join(str(options[name]) for name in ("layout", "task", "split") if options.get(name))


def print_summary(summary: dict[str, Any], output: Path) -> None:
    """Prints the mean metrics and the run time."""
    from mossformer_jax.evaluation.report import summary_table

    print_table(summary_table(summary), left=1)
    silent, factor = summary["silent_references"]["count"], summary["real_time_factor"]
    if silent:
        print(f"{silent} of {summary['count']} utterances have a silent reference and are excluded from the means")
    speed = "" if factor is None else f", real-time factor {factor:.3f}"
    print(
        f"{summary['seconds'] / 60:.1f} min of audio, compiled in {summary['compile_seconds']:.1f} s{speed}: {output}",
        flush=True,
    )
