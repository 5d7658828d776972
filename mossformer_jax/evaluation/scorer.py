"""The compiled program of an evaluation, one per length: sets the level of a batch, separates it and scores it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from mossformer_jax.data.batch import Batch
from mossformer_jax.evaluation.evaluate import Scores, score_separation
from mossformer_jax.model import ModelConfig
from mossformer_jax.model.levels import separate_at_level
from mossformer_jax.programs import shared_program
from mossformer_jax.sharding import place, place_rows, replicated
from mossformer_jax.weights.parameters import Parameters, assemble_network


class ScoredBatch(NamedTuple):
    """The results of a batch. Every process has all rows.

    Attributes:
        scores: scores of the batch.
        index_b: index of each row's mixture in the data set; -1 for padding rows.
        estimates_bct: the separated sources at the mixture's level, in the order of the network's outputs.
    """

    scores: Scores
    index_b: Int[Array, " b"]
    estimates_bct: Float[Array, "b c t"]


class Scorer:
    """Separates and scores batches of whole utterances.

    Args:
        config: the model's config.
        parameters: the model's weights, by dotted name.
        mesh: device mesh; the rows of a batch are sharded over all devices.

    Attributes:
        config: the model's config.
        mesh: device mesh.
        num_programs: number of batch shapes compiled so far.
        compile_seconds: total time spent on compilation.
        run_seconds: total time spent on separation and scoring.
    """

    def __init__(self, config: ModelConfig, parameters: Parameters, mesh: Mesh):
        self.config, self.mesh = config, mesh
        self.compile_seconds = self.run_seconds = 0.0
        self._parameters = {name: place(array, replicated(mesh)) for name, array in parameters.items()}
        self._programs: dict[tuple[int, ...], jax.stages.Compiled] = {}
        self._jitted = _jitted(config, mesh)

    @property
    def num_programs(self) -> int:
        """Number of batch shapes compiled so far."""
        return len(self._programs)

    def __call__(self, batch: Batch) -> ScoredBatch:
        """Separates and scores a batch; with several processes, each passes its part of the rows."""
        start = time.perf_counter()
        placed = place_rows(batch, self.mesh)
        shape = placed.sources.shape
        if shape not in self._programs:
            self._programs[shape] = self._jitted.lower(self._parameters, placed).compile()
            compiled = time.perf_counter()
            self.compile_seconds += compiled - start
            start = compiled
        scored = jax.block_until_ready(self._programs[shape](self._parameters, placed))
        self.run_seconds += time.perf_counter() - start
        return scored


@shared_program
def _jitted(config: ModelConfig, mesh: Mesh):
    def run(parameters: Mapping[str, Array], batch: Batch) -> ScoredBatch:
        network = assemble_network(config, parameters)
        estimates_bct = separate_at_level(network, batch.mixture, batch.lengths)
        scores = score_separation(estimates_bct, batch.sources, batch.mixture, batch.lengths)
        return ScoredBatch(scores, batch.index, estimates_bct)

    return jax.jit(run, out_shardings=replicated(mesh))


def fetch(scored: ScoredBatch, row: int, num_samples: int) -> Float[np.ndarray, "c t"]:
    """The estimates of a row on the host, in the order of its references and without padding."""
    # Indexed on the host: on the mesh, indexing is a program that all processes must run.
    estimates_ct = np.asarray(scored.estimates_bct)[row, :, :num_samples]
    return estimates_ct[np.asarray(scored.scores.permutation_bc)[row]]
