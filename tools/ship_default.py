"""Makes a shipped model of a training run: brings its outputs to the level of its input, and halves its size.

    python tools/ship_default.py --run RUN --mixtures HELDOUT/validation/mixtures.csv --output MODEL

A run's weights are at the level of its validation data, separated sources at that which the model's input is brought
to (`ModelConfig.input_level_db`). The decoder is multiplied by the one number that makes the sources add up to the
mixtures as nearly as they can; then the weights are stored as float16. It prints what both have changed: the mean
SI-SDRi of the mixtures before and after. The default model is MODEL = mossformer_jax/assets/default.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from mossformer_jax.data.layouts import open_mixtures
from mossformer_jax.evaluation.evaluate import score_separation
from mossformer_jax.evaluation.scorer import to_input_level
from mossformer_jax.weights import load_parameters, save_model
from mossformer_jax.weights.loaded import LoadedModel
from mossformer_jax.weights.parameters import Parameters

DECODER = "decoder.kernel"
# All of one length: a program is compiled for each.
NUM_SAMPLES = 24000


def separate_all(model: LoadedModel, sources: Iterable[np.ndarray]) -> tuple[float, float]:
    """Separates sources' mixtures: the mean SI-SDRi in dB, and the gain that makes the outputs add up to the inputs."""
    improvements, dot, power = [], 0.0, 0.0
    for sources_ct in sources:
        lengths_b = jnp.array([sources_ct.shape[1]])
        mixture_bt = to_input_level(jnp.asarray(sources_ct.sum(axis=0))[None], lengths_b, model.config.input_level_db)
        estimates_bct = model(mixture_bt)
        summed = np.asarray(estimates_bct, np.float64).sum(axis=1)
        dot += float(np.sum(summed * np.asarray(mixture_bt)))
        power += float(np.sum(np.square(summed)))
        scores = score_separation(estimates_bct, jnp.asarray(sources_ct)[None], mixture_bt, lengths_b)
        improvements.append(float(scores.si_sdri_bc.mean()))
    return float(np.mean(improvements)), dot / power


def read_sources(table: Path, sample_rate: int) -> list[np.ndarray]:
    """The beginnings `(c, t)` of all mixtures that are as long as `NUM_SAMPLES`."""
    mixtures = open_mixtures("csv", path=table, sample_rate=sample_rate)
    sources = [np.asarray(mixtures.read(index).sources, np.float32) for index in range(len(mixtures))]
    long_enough = [sources_ct[:, :NUM_SAMPLES] for sources_ct in sources if sources_ct.shape[1] >= NUM_SAMPLES]
    if not long_enough:
        raise SystemExit(f"{table}: no mixture has {NUM_SAMPLES} samples; give longer ones")
    return long_enough


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="a run or a model folder; a run's best weights are taken")
    parser.add_argument("--mixtures", type=Path, required=True, metavar="CSV", help='a table for layout="csv"')
    parser.add_argument("--output", type=Path, required=True, help="the model folder to write")
    flags = parser.parse_args(arguments)
    config, parameters = load_parameters(flags.run)
    sources = read_sources(flags.mixtures, config.sample_rate)
    before, gain = separate_all(LoadedModel(config, parameters), sources)
    levelled: Parameters = {**parameters, DECODER: parameters[DECODER] * np.float32(gain)}
    save_model(flags.output, config, levelled, storage="float16")
    after, _ = separate_all(LoadedModel(*load_parameters(flags.output)), sources)
    print(f"{len(sources)} mixtures: SI-SDRi {before:.3f} dB; scaled by {gain:.4g} and as float16 {after:.3f} dB")


if __name__ == "__main__":
    main()
