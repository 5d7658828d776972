"""Validation while training: whole utterances, over all devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from mossformer_jax.data.pipeline import Batch, EvaluationBatches, evaluation_batches
from mossformer_jax.data.records import MixtureSource
from mossformer_jax.evaluation.evaluate import Scores, evaluate, mean_si_sdri_db, score_separation
from mossformer_jax.evaluation.scorer import separate_at_level
from mossformer_jax.model import ModelConfig
from mossformer_jax.sharding import by_rows, local_rows, place_rows, replicated
from mossformer_jax.training.journal import Example
from mossformer_jax.training.recipe import Recipe
from mossformer_jax.training.state import Arrays
from mossformer_jax.weights.parameters import assemble_network


class Validated(NamedTuple):
    """Outcome of a validation, the same in every process.

    Attributes:
        si_sdri_db: mean SI-SDR improvement.
        si_sdr_db: mean SI-SDR.
        output_gains: what each output is to be multiplied by, so that over the data set it differs least (in power)
            from the sources that it was given to; SI-SDR does not mind how loud a source is, so that training leaves
            outputs at any level, and each at another one.
        examples: mixtures to look at and listen to; of the first process, others have their own.
    """

    si_sdri_db: float
    si_sdr_db: float
    output_gains: tuple[float, ...]
    examples: list[Example]


class _BrokenOffError(Exception):
    """Ends a validation in the middle."""


class Validation:
    """Scores weights on a data set, with a compiled program a length.

    Args:
        config: the model.
        recipe: batch size and number of examples.
        mixtures: the data set.
        num_workers: processes that read it.
        mesh: the devices that share each batch.

    Raises:
        FileNotFoundError, ValueError: a file is missing or corrupt; the message names it.
    """

    def __init__(self, config: ModelConfig, recipe: Recipe, mixtures: MixtureSource, num_workers: int, mesh: Mesh):
        self._mixtures, self._mesh, self._num_examples = mixtures, mesh, recipe.num_examples
        self._batches: EvaluationBatches = evaluation_batches(
            mixtures,
            batch_size=recipe.validation_batch_size or mesh.size,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            num_workers=num_workers,
        )

        def score(weights: Arrays, batch: dict[str, Array]) -> tuple[Scores, Array, Array, Array]:
            mixture_bt, sources_bct, lengths_b = batch["mixture"], batch["sources"], batch["lengths"]
            estimates_bct = separate_at_level(assemble_network(config, weights), mixture_bt, lengths_b)
            scores = score_separation(estimates_bct, sources_bct, mixture_bt, lengths_b)
            counted_bct = jnp.where(batch["mask"][:, None, None], estimates_bct, 0.0)
            levels_2c = output_levels(counted_bct, sources_bct, scores.permutation_bc)
            return scores, batch["index"], levels_2c, estimates_bct

        everywhere = replicated(mesh)
        self._score = jax.jit(score, out_shardings=(everywhere, everywhere, everywhere, by_rows(mesh)))

    def __call__(self, weights: Arrays, asked_to_stop: Callable[[], bool] = lambda: False) -> Validated | None:
        """Scores these weights; None if `asked_to_stop` says so before the end, which it must in every process."""
        levels: list[Array] = []
        shown: list[tuple[Batch, Scores, Array, Array]] = []
        # The batches go from short utterances to long ones: those in the middle are worth listening to.
        middle = len(self._batches) // 2

        def score_batch(batch: Batch) -> tuple[Scores, Array]:
            if asked_to_stop():
                raise _BrokenOffError
            scores, index_b, levels_2c, estimates_bct = self._score(weights, place_rows(batch, self._mesh))
            if len(levels) == middle:
                shown.append((batch, scores, index_b, estimates_bct))
            levels.append(levels_2c)
            return scores, index_b

        try:
            rows = evaluate(score_batch, self._batches)
        except _BrokenOffError:
            return None
        gains_c = least_squares_gains(np.sum([np.asarray(levels_2c, np.float64) for levels_2c in levels], axis=0))
        return Validated(
            mean_si_sdri_db(rows),
            float(np.mean([row.si_sdr_db for row in rows if not any(row.silent)])),
            tuple(gains_c.tolist()),
            [example for of_batch in shown for example in self._examples(*of_batch, gains_c)],
        )

    def _examples(
        self, batch: Batch, scores: Scores, index_b: Array, estimates_bct: Array, gains_c: np.ndarray
    ) -> list[Example]:
        """The first utterances of this process's part of a batch."""
        local_bct = local_rows(estimates_bct)
        local_bct = local_bct * gains_c[:, None].astype(local_bct.dtype)
        permutation = dict(zip(np.asarray(index_b).tolist(), np.asarray(scores.permutation_bc), strict=True))
        rows = [row for row in range(len(local_bct)) if batch["mask"][row]][: self._num_examples]
        examples = []
        for row in rows:
            index, length = int(batch["index"][row]), batch["lengths"][row]
            examples.append(
                Example(
                    name=self._mixtures.mixture_id(index),
                    sample_rate=self._mixtures.sample_rate,
                    mixture_t=batch["mixture"][row, :length],
                    estimates_ct=local_bct[row][permutation[index], :length],
                    references_ct=batch["sources"][row, :, :length],
                )
            )
        return examples


def output_levels(
    estimates_bct: Float[Array, "b c t"], sources_bct: Float[Array, "b c t"], permutation_bc: Int[Array, "b c"]
) -> Float[Array, "2 c"]:
    """Of each output: its inner product with the sources that it was given to, and its energy, over the whole batch.

    Args:
        estimates_bct: separated sources, in the order that the network gives them.
        sources_bct: the true ones.
        permutation_bc: the estimate that belongs to each source.
    """
    source_of_output_bc = jnp.argsort(permutation_bc, axis=1)
    given_bct = jnp.take_along_axis(sources_bct, source_of_output_bc[:, :, None], axis=1)
    return jnp.stack([jnp.sum(estimates_bct * of_each, axis=(0, 2)) for of_each in (given_bct, estimates_bct)])


def least_squares_gains(levels_2c: Float[np.ndarray, "2 c"]) -> Float[np.ndarray, " c"]:
    """The factors with which outputs of these levels (`output_levels`) differ least from their sources.

    They are 1 where there is nothing to find: an output that is silent throughout, or has nothing of its sources.
    """
    products_c, energies_c = levels_2c
    with np.errstate(invalid="ignore"):  # outputs that are not finite
        gains_c = products_c / np.where(energies_c > 0, energies_c, np.inf)
    return np.where(np.isfinite(gains_c) & (gains_c != 0), gains_c, 1.0)
