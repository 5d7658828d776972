"""The list of all metrics, and the computation of those that run on the host."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from mossformer_jax.scoring.bss_eval import SDR
from mossformer_jax.scoring.perceptual import ESTOI, PESQ, STOI
from mossformer_jax.scoring.si_sdr import SI_SDR

METRICS = {metric.name: metric for metric in (SI_SDR, SDR, STOI, ESTOI, PESQ)}
# Also the improvements over the mixture: every column that a table may have.
COLUMNS = {column.name: column for metric in METRICS.values() for column in metric.columns}


def parse_metrics(text: str, sample_rate: int | None = None) -> tuple[str, ...]:
    """Parses a list of metrics such as "si_sdr,sdr". SI-SDR is always included, because it finds the permutation.

    Args:
        text: names of METRICS, separated by commas.
        sample_rate: sample rate of the scored signals in Hz, if known.

    Raises:
        ValueError: a metric is unknown, its package is not installed, or it is not defined at this sample rate.
    """
    names = {name.strip() for name in text.split(",") if name.strip()}
    if unknown := sorted(names.difference(METRICS)):
        raise ValueError(f"unknown metric {unknown[0]!r}; choose from {', '.join(METRICS)}")
    for metric in (METRICS[name] for name in sorted(names)):
        if metric.package and importlib.util.find_spec(metric.package) is None:
            raise ValueError(
                f"the metric {metric.name} needs the package {metric.package}; install it with: {metric.installation}"
            )
        if metric.sample_rates and sample_rate is not None and sample_rate not in metric.sample_rates:
            rates = " or ".join(map(str, metric.sample_rates))
            raise ValueError(f"{metric.name} is not defined at {sample_rate} Hz; resample to {rates} Hz")
    return tuple(name for name in METRICS if name in names | {"si_sdr"})


def host_figures(
    estimates_ct: Float[np.ndarray, "c t"],
    references_ct: Float[np.ndarray, "c t"],
    mixture_t: Float[np.ndarray, " t"],
    sample_rate: int,
    metrics: Sequence[str],
) -> dict[str, Float[np.ndarray, " c"]]:
    """Computes the metrics of one utterance other than SI-SDR.

    Args:
        estimates_ct: separated sources, in the order of the references.
        references_ct: true sources.
        mixture_t: the mixture that was separated.
        sample_rate: in Hz.
        metrics: names of METRICS; `si_sdr` is ignored.

    Returns:
        The values of every source by column (`sdr`, and `sdri` for its improvement over the mixture), NaN where a
        metric is not defined.

    Raises:
        ValueError: the signals differ in length, or PESQ is requested at a sample rate at which it is not defined.
        ModuleNotFoundError: the package of a metric is not installed.
    """
    # SI-SDR removes the mean, so a constant reference counts as silent; the other metrics follow it.
    silent_c = np.all(references_ct == references_ct[:, :1], axis=1)
    figures: dict[str, Float[np.ndarray, " c"]] = {}
    for metric in METRICS.values():
        if metric.name not in metrics or metric.on_host is None:
            continue
        baseline = [mixture_t] if metric.improves else []
        figures_ck = np.full((len(references_ct), 1 + len(baseline)), np.nan)
        for source, (estimate_t, reference_t) in enumerate(zip(estimates_ct, references_ct, strict=True)):
            if np.isfinite(estimate_t).all() and np.isfinite(reference_t).all():
                figures_ck[source] = metric.on_host(np.stack([estimate_t, *baseline]), reference_t, sample_rate)
        figures_ck[silent_c] = np.nan
        figures[metric.name] = figures_ck[:, 0]
        for improvement in metric.columns[1:]:
            figures[improvement.name] = figures_ck[:, 0] - figures_ck[:, 1]
    return figures
