"""The compiled program of an evaluation: few shapes, and the figures of every utterance alone."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from mossformer_jax.audio.lengths import Ladder
from mossformer_jax.evaluation.evaluate import score_separation, utterance_scores
from mossformer_jax.evaluation.run import TestSet, batches_of, evaluate_model
from mossformer_jax.evaluation.scorer import Scorer, level_gain, separate_at_level
from mossformer_jax.model import MossFormer2
from mossformer_jax.separation.levels import input_gain, loudness
from mossformer_jax.sharding import make_mesh
from mossformer_jax.weights.parameters import build_network, flatten
from tests.evaluation.conftest import Noises


@pytest.mark.slow
def test_300_lengths_take_as_many_programs_as_rungs_and_score_as_if_alone(tiny_config, tmp_path):
    rate = 1000
    config = dataclasses.replace(tiny_config, sample_rate=rate, input_level_db=-25.0)
    parameters = flatten(nnx.state(MossFormer2(config, rngs=nnx.Rngs(0))))
    lengths = tuple(np.random.default_rng(0).permutation(np.arange(20, 2720, 9)).tolist())
    assert len(set(lengths)) == 300
    mixtures = Noises(lengths, rate)
    scorer = Scorer(config, parameters, make_mesh())
    # A number that the rows of no length fill.
    test_set = TestSet(mixtures, batch_size=16)
    evaluation = evaluate_model(scorer, test_set, tmp_path, identity={})
    assert len(evaluation.rows) == 300
    assert scorer.num_programs <= len(Ladder(rate).rungs(max(lengths))) == 3

    for length in (209, 1802, 2711):  # one of each rung, by the same programs with nothing beside it
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


def test_the_level_is_that_of_separating_a_file(rng):
    envelope = np.repeat(rng.uniform(size=(5, 20)) ** 4, 100, axis=1)
    mixture_bt = (envelope * rng.normal(size=envelope.shape)).astype(np.float32)
    mixture_bt[3] = np.where(np.arange(2000) % 100 < 50, 0.3, -0.3)
    mixture_bt[4] = 0.0
    lengths_b = np.array([2000, 1500, 30, 2000, 900], np.int32)
    for row, length in enumerate(lengths_b):
        mixture_bt[row, length:] = 9.0  # padding need not be silent
    gain_b1 = jax.jit(level_gain, static_argnums=2)(mixture_bt, lengths_b, -25.0)
    for row, length in enumerate(lengths_b[:4]):
        signal_t = mixture_bt[row, :length]
        expected = input_gain(loudness(lambda signal=signal_t: [signal]), -25.0)
        np.testing.assert_allclose(gain_b1[row], expected, rtol=1e-5)
    assert gain_b1[4] == 1.0, "silence"
    np.testing.assert_array_equal(level_gain(mixture_bt, lengths_b, None), np.ones((5, 1)))


def test_the_gain_of_the_input_is_undone_in_the_estimates(tiny_config, rng):
    network = MossFormer2(dataclasses.replace(tiny_config, input_level_db=-25.0), rngs=nnx.Rngs(0))
    mixture_bt = rng.normal(size=(2, 500)).astype(np.float32) * np.float32([[0.3], [0.003]])
    lengths_b = np.array([500, 400], np.int32)
    estimates_bct = separate_at_level(network, mixture_bt, lengths_b)
    for scale in (0.1, 10.0):
        scaled_bct = separate_at_level(network, scale * mixture_bt, lengths_b)
        np.testing.assert_allclose(scaled_bct, scale * estimates_bct, rtol=1e-4, atol=1e-5 * scale)
