r"""Stores the best weights of a training run as float16, which halves the size, and prints their scores.

    python tools/ship_default.py --run RUN --mixtures HELDOUT/validation.csv \
        --gains-from HELDOUT/clean/validation/mixtures.csv --output MODEL

Prints the mean SI-SDRi of the mixtures with the original and with the float16 weights. The default model is in
MODEL = mossformer_jax/assets/default. Without --gains-from, the model keeps the output gains of the run's validation.
With --shifts, the model averages that many shifted copies (`ModelConfig.shifts`).
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax

from mossformer_jax.data.layouts import open_mixtures
from mossformer_jax.data.pipeline import evaluation_batches
from mossformer_jax.data.records import MixtureSource
from mossformer_jax.evaluation.evaluate import evaluate, mean_si_sdri_db
from mossformer_jax.evaluation.scorer import Scorer
from mossformer_jax.model import ModelConfig
from mossformer_jax.sharding import make_mesh
from mossformer_jax.training.recipe import Recipe
from mossformer_jax.training.validation import Validation
from mossformer_jax.weights import load_parameters, save_model
from mossformer_jax.weights.parameters import Parameters


def mean_improvement(config: ModelConfig, parameters: Parameters, mixtures: MixtureSource) -> float:
    """Mean SI-SDRi of a model on `mixtures`, in dB."""
    mesh = make_mesh()
    scorer = Scorer(config, parameters, mesh)
    batches = evaluation_batches(mixtures, batch_size=mesh.size)
    return mean_si_sdri_db(evaluate(lambda batch: scorer(batch)[:2], batches))


def with_measured_gains(config: ModelConfig, parameters: Parameters, mixtures: MixtureSource) -> ModelConfig:
    """The config with the output gains that minimise the squared error to these sources, with one shift."""
    measured = dataclasses.replace(config, output_gains=None, shifts=1)
    validation = Validation(measured, Recipe(), mixtures, num_workers=0, mesh=make_mesh())
    validated = validation({name: jax.numpy.asarray(values) for name, values in parameters.items()})
    assert validated is not None  # this validation is not interrupted
    return dataclasses.replace(config, output_gains=validated.output_gains)


def main(arguments: Sequence[str] | None = None) -> None:
    """Stores the model and prints its scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="a run (its best weights are used) or a model folder")
    parser.add_argument("--mixtures", type=Path, required=True, metavar="CSV", help='mixtures for layout="csv"')
    parser.add_argument("--gains-from", type=Path, metavar="CSV", help="mixtures that set the output gains")
    parser.add_argument("--output", type=Path, required=True, help="the model folder to write")
    parser.add_argument("--shifts", type=int, help="number of shifted copies to average (default: the run's)")
    flags = parser.parse_args(arguments)
    config, parameters = load_parameters(flags.run)
    config = config.with_shifts(flags.shifts)
    mixtures = open_mixtures("csv", path=flags.mixtures, sample_rate=config.sample_rate)
    if flags.gains_from is not None:
        measured = open_mixtures("csv", path=flags.gains_from, sample_rate=config.sample_rate)
        config = with_measured_gains(config, parameters, measured)
    before = mean_improvement(config, parameters, mixtures)
    save_model(flags.output, config, parameters, storage="float16")
    after = mean_improvement(*load_parameters(flags.output), mixtures)
    print(f"{len(mixtures)} mixtures: SI-SDRi {before:.3f} dB; as float16 {after:.3f} dB")


if __name__ == "__main__":
    main()
