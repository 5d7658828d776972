"""Metrics are chosen by name, and the metrics that run on the host are computed for every source."""

import numpy as np
import pytest

from mossformer_jax.scoring import host_figures, metrics, parse_metrics, sdr, stoi


def test_si_sdr_is_always_computed_and_the_order_is_fixed():
    assert parse_metrics("") == ("si_sdr",)
    assert parse_metrics("stoi, sdr") == ("si_sdr", "sdr", "stoi")


def test_metrics_that_cannot_be_computed_are_rejected_when_parsed(monkeypatch):
    with pytest.raises(ValueError, match="unknown metric 'sisdr'; choose from si_sdr, sdr, stoi"):
        parse_metrics("sisdr,sdr")
    monkeypatch.setattr(metrics.importlib.util, "find_spec", lambda package: None)
    with pytest.raises(
        ValueError, match=r"needs the package pystoi; install it with: pip install 'mossformer-jax\[eval\]'"
    ):
        parse_metrics("estoi")
    with pytest.raises(ValueError, match="needs the package pesq; install it with: pip install pesq"):
        parse_metrics("pesq")
    monkeypatch.setattr(metrics.importlib.util, "find_spec", lambda package: object())
    with pytest.raises(ValueError, match="not defined at 11025 Hz"):
        parse_metrics("pesq", 11_025)
    assert parse_metrics("pesq", 8000) == ("si_sdr", "pesq")


def test_every_source_gets_the_values_of_the_single_metric_functions(rng):
    references = rng.normal(size=(3, 6000)) * np.abs(np.sin(np.arange(6000) / 300))
    mixture = references.sum(0)
    estimates = references + 0.2 * rng.normal(size=references.shape)
    figures = host_figures(estimates, references, mixture, 8000, ("si_sdr", "sdr", "stoi", "estoi"))
    assert list(figures) == ["sdr", "sdri", "stoi", "estoi"]
    for c in range(3):
        score, baseline = (sdr(x[None], references[c])[0] for x in (estimates[c], mixture))
        assert figures["sdr"][c] == pytest.approx(score, abs=1e-9)
        assert figures["sdri"][c] == pytest.approx(score - baseline, abs=1e-9)
        assert figures["stoi"][c] == stoi(estimates[c], references[c], 8000)


@pytest.mark.parametrize("level", [0.0, 0.3])  # SI-SDR removes the mean, so a constant reference counts as silent
def test_a_silent_reference_or_an_estimate_with_nan_gives_nan_for_that_source_only(rng, level):
    references = rng.normal(size=(3, 6000))
    references[0] = level
    estimates = rng.normal(size=(3, 6000))
    estimates[1, 7] = np.nan
    figures = host_figures(estimates, references, references.sum(0), 8000, ("sdr", "stoi"))
    for name in ("sdr", "sdri", "stoi"):
        np.testing.assert_array_equal(np.isnan(figures[name]), [True, True, False])
