"""Validation while training: whole utterances, over all devices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from jaxtyping import Array

from mossformer_jax.data.pipeline import Batch, EvaluationBatches, evaluation_batches
from mossformer_jax.data.records import MixtureSource
from mossformer_jax.evaluation.evaluate import Scores, evaluate, mean_si_sdri_db, score_separation
from mossformer_jax.evaluation.scorer import separate_at_level
from mossformer_jax.model import ModelConfig
from mossformer_jax.sharding import by_rows, place_rows, replicated
from mossformer_jax.training.journal import Example
from mossformer_jax.training.recipe import Recipe
from mossformer_jax.training.state import Arrays
from mossformer_jax.weights.parameters import assemble_network


class Validated(NamedTuple):
    """Outcome of a validation, the same in every process.

    Attributes:
        si_sdri_db: mean SI-SDR improvement.
        si_sdr_db: mean SI-SDR.
        output_gain: what the outputs are to be multiplied by, so that they add up to the sources as nearly as one
            factor can make them; SI-SDR does not mind how loud a source is, so that training leaves them at any level.
        examples: mixtures to look at and listen to; of the first process, others have their own.
    """

    si_sdri_db: float
    si_sdr_db: float
    output_gain: float
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
            summed_bt = jnp.where(batch["mask"][:, None], estimates_bct.sum(axis=1), 0.0)
            level = jnp.stack([jnp.sum(summed_bt * sources_bct.sum(axis=1)), jnp.sum(jnp.square(summed_bt))])
            return scores, batch["index"], level, estimates_bct

        everywhere = replicated(mesh)
        self._score = jax.jit(score, out_shardings=(everywhere, everywhere, everywhere, by_rows(mesh)))

    def __call__(self, weights: Arrays, asked_to_stop: Callable[[], bool] = lambda: False) -> Validated | None:
        """Scores these weights; None if `asked_to_stop` says so before the end, which it must in every process."""
        levels: list[Array] = []
        examples: list[Example] = []
        # The batches go from short utterances to long ones: those in the middle are worth listening to.
        shown = len(self._batches) // 2

        def score_batch(batch: Batch) -> tuple[Scores, Array]:
            if asked_to_stop():
                raise _BrokenOffError
            scores, index_b, level, estimates_bct = self._score(weights, place_rows(batch, self._mesh))
            if len(levels) == shown:
                examples.extend(self._examples(batch, scores, index_b, estimates_bct))
            levels.append(level)
            return scores, index_b

        try:
            rows = evaluate(score_batch, self._batches)
        except _BrokenOffError:
            return None
        product, power = np.sum([np.asarray(level, np.float64) for level in levels], axis=0)
        gain = float(product / power) if power > 0 else 1.0
        gain = gain if np.isfinite(gain) and gain != 0.0 else 1.0
        return Validated(
            mean_si_sdri_db(rows),
            float(np.mean([row.si_sdr_db for row in rows if not any(row.silent)])),
            gain,
            [replace(example, estimates_ct=example.estimates_ct * np.float32(gain)) for example in examples],
        )

    def _examples(self, batch: Batch, scores: Scores, index_b: Array, estimates_bct: Array) -> list[Example]:
        """The first utterances of this process's part of a batch."""
        local_bct = np.asarray(
            multihost_utils.global_array_to_host_local_array(estimates_bct, self._mesh, by_rows(self._mesh).spec)
        )
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
