"""Averages over the steps of a record."""

from __future__ import annotations

import pytest

from mossformer_jax.training.meter import Meter
from mossformer_jax.training.step import Metrics


def step(loss, skipped_in_a_row=0, num_mixtures=2):
    return Metrics(loss, -loss, 1e-3, skipped_in_a_row, skipped_in_a_row, num_mixtures)


def recorded(*steps):
    meter = Meter(batch_size=2, steps_per_epoch=10, log_every=len(steps))
    records = [meter.add(number, figures) for number, figures in enumerate(steps, 1)]
    assert records[:-1] == [None] * (len(steps) - 1)
    return records[-1]


def test_skipped_steps_and_steps_above_the_threshold_are_excluded_from_the_mean_loss():
    record = recorded(step(-20.0), step(900.0, skipped_in_a_row=1), step(0.0, num_mixtures=0), step(-22.0))
    assert (record.loss, record.gradient_norm) == (-21.0, 21.0)


def test_the_loss_is_0_if_all_mixtures_are_above_the_threshold():
    assert recorded(step(0.0, num_mixtures=0), step(0.0, num_mixtures=0)).loss == 0.0


def test_unrecorded_steps_from_a_checkpoint_of_an_earlier_version_are_counted():
    meter = Meter(2, 10, 2, unrecorded=[[-10.0, 1.0, 1e-3, 0.0, 0.0]])
    assert meter.add(2, step(-20.0)).loss == pytest.approx(-15.0)
