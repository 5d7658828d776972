"""Validation during training: full utterances, over all devices."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from mossformer_jax.data.batch import Batch
from mossformer_jax.data.pipeline import EvaluationBatches, evaluation_batches
from mossformer_jax.data.records import MixtureSource
from mossformer_jax.evaluation.evaluate import Scores, evaluate, mean_si_sdri_db, score_separation
from mossformer_jax.model import ModelConfig
from mossformer_jax.model.levels import separate_at_level
from mossformer_jax.programs import shared_program
from mossformer_jax.sharding import by_rows, local_rows, place_rows, replicated
from mossformer_jax.training.journal import Example
from mossformer_jax.training.recipe import Recipe
from mossformer_jax.training.state import Arrays
from mossformer_jax.weights.parameters import assemble_network


@shared_program
def _score(config: ModelConfig, mesh: Mesh):
    def score(weights: Arrays, batch: Batch) -> tuple[Scores, Array, Array, Array]:
        mixture_bt, sources_bct, lengths_b, index_b = batch
        estimates_bct = separate_at_level(assemble_network(config, weights), mixture_bt, lengths_b)
        scores = score_separation(estimates_bct, sources_bct, mixture_bt, lengths_b)
        counted_bct = jnp.where(batch.mask[:, None, None], estimates_bct, 0.0)
        levels_2c = output_levels(counted_bct, sources_bct, scores.permutation_bc)
        return scores, index_b, levels_2c, estimates_bct

    everywhere = replicated(mesh)
    return jax.jit(score, out_shardings=(everywhere, everywhere, everywhere, by_rows(mesh)))


class Validated(NamedTuple):
    """Result of a validation, the same in every process except for the examples.

    Attributes:
        si_sdri_db: mean SI-SDR improvement in dB.
        si_sdr_db: mean SI-SDR in dB.
        output_gains: one factor per output that minimises the squared error to the sources assigned to it over the
            data set. SI-SDR is scale-invariant, so training leaves each output at an arbitrary level.
        examples: mixtures for TensorBoard, from this process's part of the data.
        silent: whether every mixture has a silent source, for which SI-SDR is undefined. The figures are then NaN.
    """

    si_sdri_db: float
    si_sdr_db: float
    output_gains: tuple[float, ...]
    examples: list[Example]
    silent: bool = False

    @property
    def why_undefined(self) -> str:
        """Why SI-SDRi is not a number."""
        if self.silent:
            return "every mixture has a silent source, for which SI-SDR is undefined"
        return "the outputs of the network are not finite"


class _InterruptedError(Exception):
    """Interrupts a validation."""


class Validation:
    """Scores weights on a data set, with one compiled program per padded length.

    Args:
        config: the model.
        recipe: provides the batch size and the number of examples.
        mixtures: the data set.
        num_workers: number of processes that read it.
        mesh: the devices over which each batch is sharded.

    Raises:
        FileNotFoundError, ValueError: a file is missing or corrupt; the message names it.
    """

    def __init__(self, config: ModelConfig, recipe: Recipe, mixtures: MixtureSource, num_workers: int, mesh: Mesh):
        self._mixtures, self._mesh = mixtures, mesh
        needed = math.ceil(len(mixtures) / mesh.size) * mesh.size  # a larger batch would have only more empty rows
        self._batches: EvaluationBatches = evaluation_batches(
            mixtures,
            batch_size=min(recipe.validation_batch_size or mesh.size, needed),
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            num_workers=num_workers,
        )

        # The indices are sorted by length, and utterances in the middle are of ordinary length.
        indices = self._batches.indices
        first = max(len(indices) - recipe.num_examples, 0) // 2
        self._shown = set(indices[first : first + recipe.num_examples])

        self._score = _score(config, mesh)

    def __call__(self, weights: Arrays, asked_to_stop: Callable[[], bool] = lambda: False) -> Validated | None:
        """Scores weights; None if `asked_to_stop` returns True before the end. It must agree in all processes."""
        levels: list[Array] = []
        shown: list[tuple[Batch, Scores, Array, Array]] = []

        def score_batch(batch: Batch) -> tuple[Scores, Array]:
            if asked_to_stop():
                raise _InterruptedError
            scores, index_b, levels_2c, estimates_bct = self._score(weights, place_rows(batch, self._mesh))
            if self._shown.intersection(np.asarray(batch.index).tolist()):
                shown.append((batch, scores, index_b, estimates_bct))
            levels.append(levels_2c)
            return scores, index_b

        try:
            rows = evaluate(score_batch, self._batches)
        except _InterruptedError:
            return None
        gains_c = least_squares_gains(np.sum([np.asarray(levels_2c, np.float64) for levels_2c in levels], axis=0))
        scored = [row.si_sdr_db for row in rows if not any(row.silent)]
        return Validated(
            mean_si_sdri_db(rows),
            float(np.mean(scored)) if scored else math.nan,
            tuple(gains_c.tolist()),
            [example for of_batch in shown for example in self._examples(*of_batch, gains_c)],
            silent=not scored,
        )

    def _examples(
        self, batch: Batch, scores: Scores, index_b: Array, estimates_bct: Array, gains_c: np.ndarray
    ) -> list[Example]:
        """The examples in this process's part of a batch."""
        local_bct = local_rows(estimates_bct)
        local_bct = local_bct * gains_c[:, None].astype(local_bct.dtype)
        permutation = dict(zip(np.asarray(index_b).tolist(), np.asarray(scores.permutation_bc), strict=True))
        rows = [row for row in range(len(local_bct)) if int(batch.index[row]) in self._shown]
        examples = []
        for row in rows:
            index, length = int(batch.index[row]), batch.lengths[row]
            examples.append(
                Example(
                    name=self._mixtures.mixture_id(index),
                    sample_rate=self._mixtures.sample_rate,
                    mixture_t=batch.mixture[row, :length],
                    estimates_ct=local_bct[row][permutation[index], :length],
                    references_ct=batch.sources[row, :, :length],
                )
            )
        return examples


def output_levels(
    estimates_bct: Float[Array | np.ndarray, "b c t"],
    sources_bct: Float[Array | np.ndarray, "b c t"],
    permutation_bc: Int[Array | np.ndarray, "b c"],
) -> Float[Array, "2 c"]:
    """For each output: its inner product with the sources assigned to it, and its energy, summed over the batch.

    Args:
        estimates_bct: separated sources, in the network's order.
        sources_bct: the true sources.
        permutation_bc: for each source, the index of the estimate assigned to it.

    Returns:
        Inner products (row 0) and energies (row 1).
    """
    source_of_output_bc = jnp.argsort(permutation_bc, axis=1)
    given_bct = jnp.take_along_axis(sources_bct, source_of_output_bc[:, :, None], axis=1)
    return jnp.stack([jnp.sum(estimates_bct * of_each, axis=(0, 2)) for of_each in (given_bct, estimates_bct)])


def least_squares_gains(levels_2c: Float[np.ndarray, "2 c"]) -> Float[np.ndarray, " c"]:
    """The gains that minimise the squared error between outputs and sources, from sums of `output_levels`.

    A gain is 1 where it is undefined: for an output that is silent throughout, or orthogonal to its sources.
    """
    products_c, energies_c = levels_2c
    with np.errstate(invalid="ignore"):  # outputs may not be finite
        gains_c = products_c / np.where(energies_c > 0, energies_c, np.inf)
    return np.where(np.isfinite(gains_c) & (gains_c != 0), gains_c, 1.0)
