"""The compiled training step: its metrics, and which parts of the state it changes."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mossformer_jax.data.batch import Batch
from mossformer_jax.scoring import pit_si_sdr
from mossformer_jax.sharding import make_mesh, place_rows
from mossformer_jax.training.recipe import Recipe
from mossformer_jax.training.state import TrainState, abstract_state, begin
from mossformer_jax.training.step import Metrics, make_train_step
from mossformer_jax.weights.parameters import assemble_network

pytestmark = pytest.mark.slow

NUM_SAMPLES = 1600
# Most of these programs run a few times only; compiling them takes half as long.
COMPILER_OPTIONS = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
# Between the scores of the batch below: two of its mixtures are above it.
RECIPE = Recipe(lr=1e-3, ema_decay=0.95, threshold_db=-22.0)


@pytest.fixture(scope="module")
def config(tiny_config):
    return dataclasses.replace(tiny_config, dropout=0.0)


@pytest.fixture(scope="module")
def run_step(config):
    """Runs a step: host arrays in, host arrays out; every program is compiled once."""
    mesh, programs = make_mesh(), {}

    def run(state: TrainState, batch: Batch, recipe: Recipe = RECIPE, config=config) -> tuple[TrainState, Metrics]:
        where = jax.tree.map(lambda array: array.sharding, abstract_state(config, recipe, mesh))
        arguments = jax.device_put(state, where), place_rows(batch, mesh)
        if (recipe, config) not in programs:
            step = make_train_step(config, recipe, 1000, mesh)
            programs[recipe, config] = step.lower(*arguments).compile(COMPILER_OPTIONS)
        new_state, metrics = jax.device_get(programs[recipe, config](*arguments))
        return new_state, Metrics(*metrics.tolist())

    return run


@pytest.fixture(scope="module")
def start(config) -> TrainState:
    return jax.device_get(begin(config, RECIPE, make_mesh()))


@pytest.fixture(scope="module")
def batch() -> Batch:
    """Four mixtures, of which two are shorter than the rows."""
    rng = np.random.default_rng(1)
    sources_bct = 0.1 * rng.standard_normal((4, 2, NUM_SAMPLES)).astype(np.float32)
    lengths_b = np.array([NUM_SAMPLES, 1200, NUM_SAMPLES, 1200], np.int32)
    sources_bct *= np.arange(NUM_SAMPLES) < lengths_b[:, None, None]
    # Longer mixtures have better scores with an untrained network.
    return Batch(sources_bct.sum(1), sources_bct, lengths_b)


@pytest.fixture(scope="module")
def scores(config, start, batch) -> np.ndarray:
    """SI-SDR in dB of each mixture of the batch, from a separate forward pass over its own length."""

    weights = jax.tree.map(jnp.asarray, start).weights

    @partial(jax.jit, compiler_options=COMPILER_OPTIONS)
    def score(mixture_bt, sources_bct):
        return pit_si_sdr(assemble_network(config, weights)(mixture_bt), sources_bct)[0]

    scores_b = np.empty(4)
    for length in (NUM_SAMPLES, 1200):
        rows = batch.lengths == length
        scores_b[rows] = score(batch.mixture[rows, :length], batch.sources[rows, :, :length])
    return scores_b


@pytest.fixture(scope="module")
def stepped(run_step, start, batch) -> tuple[TrainState, Metrics]:
    return run_step(start, batch)


def assert_same(ours: object, expected: object) -> None:
    jax.tree.map(np.testing.assert_array_equal, ours, expected)


def changed_rows(batch: Batch, rows: list[int], by: float) -> Batch:
    """The batch with something added to the first sample of some mixtures."""
    mixture_bt = batch.mixture.copy()
    mixture_bt[rows, 0] += by
    return batch._replace(mixture=mixture_bt)


def test_the_loss_is_the_mean_over_the_mixtures_below_the_threshold_whatever_the_padding(scores, stepped):
    assert 0 < np.sum(scores < RECIPE.threshold_db) < len(scores)
    # Two programs in float32, of signals of 1,200 and of 1,600 samples: SI-SDR of -25 dB to 5 digits.
    assert stepped[1].loss == pytest.approx(-np.mean(scores[scores < RECIPE.threshold_db]), abs=1e-3)


def test_a_mixture_above_the_threshold_does_not_affect_the_step(run_step, start, batch, scores, stepped):
    above = np.flatnonzero(scores > RECIPE.threshold_db)
    assert_same(run_step(start, changed_rows(batch, list(above), 1e-3)), stepped)
    below = np.flatnonzero(scores < RECIPE.threshold_db)
    assert run_step(start, changed_rows(batch, list(below), 1e-3))[1].loss != stepped[1].loss


def test_a_silent_source_is_not_scored_by_si_sdr(run_step, start, batch, scores):
    below = np.flatnonzero(scores < RECIPE.threshold_db)
    sources_bct = batch.sources.copy()
    sources_bct[below[0], 1] = 0.0
    # SI-SDR against silence is -100 dB, far below the threshold; outputs that are about as loud are about 0 dB apart.
    _, metrics = run_step(start, batch._replace(sources=sources_bct))
    assert metrics.loss == pytest.approx(-np.mean(scores[below[1:]]), abs=1e-3)
    # If all references are silent, the gradient is zero.
    state, metrics = run_step(start, batch._replace(sources=0 * sources_bct))
    assert (metrics.loss, metrics.skipped, metrics.num_mixtures) == (0, 0, 0)
    assert_same(state, start._replace(step=np.int32(1)))


def test_the_step_is_clipped_adam_and_the_average_follows(start, stepped):
    state, metrics = stepped
    assert metrics.gradient_norm > RECIPE.clip_norm, "nothing to clip"
    # Adam's first moment is a tenth of the clipped gradient.
    (moments,) = (part for part in state.optimizer if hasattr(part, "mu"))
    norm = np.sqrt(sum(np.sum(np.square(10.0 * moment, dtype=np.float64)) for moment in moments.mu.values()))
    assert norm == pytest.approx(RECIPE.clip_norm, rel=1e-5)  # of float32
    for name, parameter in state.parameters.items():
        gradient = 10.0 * moments.mu[name]
        # Adam's first step is the learning rate in the direction of the gradient, but for its epsilon.
        expected = start.parameters[name] - 1e-3 * gradient / (np.abs(gradient) + 1e-8)
        np.testing.assert_allclose(parameter, expected, atol=2e-6, err_msg=name)


def test_the_average_matches_numpy(run_step, start, batch):
    state, average = start, dict(start.average)
    for step in range(3):
        state, _ = run_step(state, batch)
        decay = min(RECIPE.ema_decay, (1 + step) / (10 + step))
        average = {name: decay * old + (1 - decay) * state.parameters[name] for name, old in average.items()}
    for name, expected in average.items():
        np.testing.assert_allclose(state.average[name], expected, rtol=1e-5, atol=1e-7, err_msg=name)  # float32
    weights = jax.device_get(jax.tree.map(jnp.asarray, state).weights)
    assert_same({name: weights[name] for name in average}, state.average)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_batch_that_is_not_finite_changes_nothing_but_the_counters(run_step, start, batch, stepped, bad):
    spoilt = changed_rows(batch, [0], bad)
    once, metrics = run_step(stepped[0], spoilt)
    assert not np.isfinite(metrics.loss)
    twice, _ = run_step(once, spoilt)
    expected = stepped[0]._replace(step=np.int32(3), skipped=np.int32(2), skipped_in_a_row=np.int32(2))
    assert_same(twice, expected)
    after, metrics = run_step(twice, batch)
    assert (after.skipped, after.skipped_in_a_row) == (metrics.skipped, metrics.skipped_in_a_row) == (2, 0)
    assert np.isfinite(metrics.loss)


def test_accumulation_gives_the_step_of_the_whole_batch_and_a_huge_loss_is_skipped(
    run_step, start, batch, scores, stepped
):
    # One part has both mixtures below the threshold, the other part has none.
    order = [0, 2, 1, 3]
    pieces = jax.tree.map(lambda rows: rows[order], batch)
    recipe = dataclasses.replace(RECIPE, accumulation=2, max_loss=29.0)
    state, metrics = run_step(start, pieces, recipe)
    # The same sums in another order: float32 roundings of gradients, which Adam's first step makes no larger than the
    # learning rate where a gradient is next to nothing.
    assert metrics.loss == pytest.approx(stepped[1].loss, rel=1e-6)
    assert metrics.gradient_norm == pytest.approx(stepped[1].gradient_norm, rel=1e-4)
    for name, parameter in state.parameters.items():
        difference = np.abs(parameter - stepped[0].parameters[name])
        assert np.median(difference) < 1e-6, name
        assert np.max(difference) < 2.1 * RECIPE.lr, name

    # Without the better of the two mixtures below the threshold, the loss is above max_loss.
    worst = jax.tree.map(lambda rows: np.repeat(rows[1:2], 4, axis=0), batch)
    assert -scores[1] > recipe.max_loss
    state, metrics = run_step(start, worst, recipe)
    assert metrics.loss == pytest.approx(-scores[1], abs=1e-3)
    assert_same(state, start._replace(step=np.int32(1), skipped=np.int32(1), skipped_in_a_row=np.int32(1)))


def test_dropout_differs_by_step_in_bfloat16_with_recomputed_blocks(run_step, start, batch, config):
    config = dataclasses.replace(config, dropout=0.3, dtype="bfloat16", remat="blocks")
    first = run_step(start, batch, config=config)
    assert all(np.isfinite(first[1]))
    assert first[1].skipped == 0
    assert all(array.dtype == np.float32 for array in first[0].parameters.values())
    assert_same(run_step(start, batch, config=config), first)
    later = run_step(start._replace(step=np.int32(1)), batch, config=config)
    assert later[1].loss != first[1].loss
    other_seed = run_step(start._replace(key=np.array([0, 1], np.uint32)), batch, config=config)
    assert other_seed[1].loss != first[1].loss


def test_a_change_of_step_does_not_recompile_the_program(run_step, start, batch):
    later, metrics = run_step(start._replace(step=np.int32(500), plateau_factor=np.float32(0.25)), batch)
    assert metrics.learning_rate == pytest.approx(RECIPE.lr / 4)
    assert later.step == 501
