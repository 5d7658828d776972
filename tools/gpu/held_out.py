"""Validation during a training on an accelerator: mean SI-SDRi and output gains, with one compiled program."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mossformer_jax.data.batch import Batch
from mossformer_jax.data.records import MixtureSource
from mossformer_jax.evaluation.evaluate import (
    Scores,
    UtteranceScores,
    mean_si_sdri_db,
    score_separation,
    utterance_scores,
)
from mossformer_jax.model import ModelConfig
from mossformer_jax.model.levels import separate_at_level
from mossformer_jax.sharding import place_rows, replicated
from mossformer_jax.training.state import Arrays
from mossformer_jax.training.validation import least_squares_gains, output_levels
from mossformer_jax.weights.parameters import assemble_network


class HeldOut:
    """Scores weights on the validation mixtures, all padded to one length so that there is a single program.

    Args:
        config: the model.
        mixtures: the validation mixtures.
        mesh: the devices.
        rows: number of mixtures per batch.
        pool: threads that read the files.
    """

    def __init__(self, config: ModelConfig, mixtures: MixtureSource, mesh: Mesh, rows: int, pool: ThreadPoolExecutor):
        self.mesh = mesh
        self.batches: list[Batch] = []
        read = list(pool.map(mixtures.read, range(len(mixtures))))
        longest = max(mixture.sources.shape[1] for mixture in read)
        for begins in range(0, len(read), rows):
            part = read[begins : begins + rows]
            batch = Batch(
                np.zeros((rows, longest), np.float32),
                np.zeros((rows, config.num_sources, longest), np.float32),
                np.full(rows, longest, np.int32),
                np.full(rows, -1, np.int32),
            )
            for row, mixture in enumerate(part):
                length = mixture.sources.shape[1]
                batch.mixture[row, :length] = mixture.mixed()
                batch.sources[row, :, :length] = mixture.sources
                batch.lengths[row], batch.index[row] = length, begins + row
            self.batches.append(place_rows(batch, mesh))

        def score(weights: Arrays, batch: Batch) -> tuple[Scores, jax.Array]:
            estimates = separate_at_level(assemble_network(config, weights), batch.mixture, batch.lengths)
            scores = score_separation(estimates, batch.sources, batch.mixture, batch.lengths)
            counted = jnp.where(batch.index[:, None, None] >= 0, estimates, 0.0)
            return scores, output_levels(counted, batch.sources, scores.permutation_bc)

        self.score = jax.jit(score, out_shardings=replicated(mesh))

    def __call__(self, weights: Arrays) -> tuple[float, tuple[float, ...]]:
        """Mean SI-SDRi in dB, and the gains that scale the outputs to the level of the sources."""
        rows: list[UtteranceScores] = []
        levels = np.zeros(())
        for batch in self.batches:
            scores, levels_2c = self.score(weights, batch)
            rows += utterance_scores(scores, batch.index)
            levels = levels + np.asarray(levels_2c, np.float64)
        return mean_si_sdri_db(rows), tuple(least_squares_gains(levels).tolist())
