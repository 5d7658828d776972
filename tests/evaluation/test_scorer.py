"""The compiled program of an evaluation has few shapes, and batching does not change the scores."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from mossformer_jax.audio.lengths import Ladder
from mossformer_jax.evaluation.evaluate import score_separation, utterance_scores
from mossformer_jax.evaluation.run import TestSet, batches_of, evaluate_model
from mossformer_jax.evaluation.scorer import Scorer
from mossformer_jax.model import MossFormer2
from mossformer_jax.model.levels import input_gain, loudness
from mossformer_jax.sharding import make_mesh
from mossformer_jax.weights.parameters import build_network, flatten
from tests.evaluation.conftest import Noises


@pytest.mark.slow
def test_300_lengths_need_one_program_per_rung_and_score_the_same_as_without_batching(tiny_config, tmp_path):
    rate = 1000
    config = dataclasses.replace(tiny_config, sample_rate=rate, input_level_db=-25.0)
    parameters = flatten(nnx.state(MossFormer2(config, rngs=nnx.Rngs(0))))
    lengths = tuple(np.random.default_rng(0).permutation(np.arange(20, 2720, 9)).tolist())
    assert len(set(lengths)) == 300
    mixtures = Noises(lengths, rate)
    scorer = Scorer(config, parameters, make_mesh())
    # A batch size that leaves padding rows for every length.
    test_set = TestSet(mixtures, batch_size=16)
    evaluation = evaluate_model(scorer, test_set, tmp_path, identity={})
    assert len(evaluation.rows) == 300
    assert scorer.num_programs <= len(Ladder(rate).rungs(max(lengths))) == 3

    for length in (209, 1802, 2711):  # one of each rung, by the same programs, with padding rows only
        index = lengths.index(length)
        (batch,) = batches_of(test_set, [index])
        (alone,) = utterance_scores(*scorer(batch)[:2])
        assert evaluation.rows[index]["si_sdr"] == pytest.approx(alone.si_sdr_db, abs=1e-3)
    assert scorer.num_programs <= 3

    graphdef, state = nnx.split(build_network(config, parameters))

    @jax.jit
    def score_alone(state, at_level_bt, mixture_bt, sources_bct):
        estimates_bct = nnx.merge(graphdef, state)(at_level_bt)
        return score_separation(estimates_bct, sources_bct, mixture_bt, np.array([mixture_bt.shape[1]]))

    index = lengths.index(209)  # the first rung is 1000 samples
    mixture = mixtures.read(index)
    mixed_bt = mixture.mixed()[None]
    gain = input_gain(loudness(lambda: [mixed_bt]), -25.0)
    scores = score_alone(state, mixed_bt * np.float32(gain), mixed_bt, mixture.sources[None])
    (alone,) = utterance_scores(scores, np.array([index]))
    assert evaluation.rows[index]["si_sdr"] == pytest.approx(alone.si_sdr_db, abs=1e-3)
    assert evaluation.rows[index]["si_sdri"] == pytest.approx(alone.si_sdri_db, abs=1e-3)
