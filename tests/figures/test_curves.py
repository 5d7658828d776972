"""The plot of the training curves."""

from __future__ import annotations

import numpy as np
import pytest

from mossformer_jax.figures import curves
from mossformer_jax.figures.curves import plot_training


def training(step, loss):
    return {"kind": "train", "step": step, "loss": loss, "learning_rate": 1e-4}


def validation(step, si_sdri_db):
    return {"kind": "validation", "step": step, "si_sdri_db": si_sdri_db, "si_sdr_db": si_sdri_db}


@pytest.fixture
def panels(tmp_path, monkeypatch):
    """Plots records and returns the axes of the figure."""
    figures = []
    save = curves.save_figure
    monkeypatch.setattr(curves, "save_figure", lambda figure, path: (figures.append(figure), save(figure, path)))

    def draw(records):
        plot_training(tmp_path / "loss.png", records)
        assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
        return figures[-1].axes

    return draw


@pytest.mark.medium
def test_the_best_validation_is_marked(panels):
    loss, improvement, _ = panels([training(1, 0.0), validation(10, 3.0), validation(20, 12.345), validation(30, None)])
    best = improvement.get_lines()[-1]
    assert best.get_label() == "best: 12.35 dB at step 20"
    assert (best.get_xdata()[0], best.get_ydata()[0]) == (20, 12.345)
    np.testing.assert_array_equal(loss.get_lines()[-1].get_ydata(), [-3.0, -12.345, np.nan])


def test_an_outlier_neither_flattens_nor_bends_the_curve(panels):
    records = [training(step, -10.0 - step / 1000) for step in range(1000)]
    records[500]["loss"] = 1e6
    loss, *_ = panels(records)
    _, smoothed, _ = loss.get_lines()
    assert loss.get_ylim()[1] < -9
    assert smoothed.get_ydata().max() < -9


@pytest.mark.medium
def test_losses_that_are_not_finite_leave_a_gap(panels):
    loss, *_ = panels([training(1, -1.0), training(2, None), training(3, -2.0)])
    np.testing.assert_array_equal(loss.get_lines()[0].get_ydata(), [-1.0, np.nan, -2.0])


@pytest.mark.medium
@pytest.mark.parametrize("records", [[], [training(1, None)], [training(1, 0.5)], [validation(1, 2.0)]])
def test_few_or_no_records_can_be_plotted(panels, records):
    assert [axes.get_ylabel() for axes in panels(records)] == [
        "Loss: negative SI-SDR (dB)", "SI-SDR improvement (dB)", "Learning rate"
    ]  # fmt: skip


@pytest.mark.parametrize("count", [1, 2, 7, 300])
def test_smoothing_does_not_change_a_constant_curve(count):
    # The tolerance covers rounding in the mean of equal numbers.
    np.testing.assert_allclose(curves._smoothed(np.full(count, -7.3)), -7.3, rtol=1e-12)
