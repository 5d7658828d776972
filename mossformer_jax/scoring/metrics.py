"""The names of the metrics of an evaluation, and the computation of those that run on the host."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from mossformer_jax.scoring.bss_eval import sdr
from mossformer_jax.scoring.perceptual import PESQ_MODES, pesq, stoi

METRIC_NAMES = ("si_sdr", "sdr", "stoi", "estoi", "pesq")
_INSTALLATION = {
    "stoi": ("pystoi", "pip install 'mossformer-jax[eval]'"),
    "estoi": ("pystoi", "pip install 'mossformer-jax[eval]'"),
    "pesq": ("pesq", "pip install pesq (it needs a C compiler)"),
}


def parse_metrics(text: str, sample_rate: int | None = None) -> tuple[str, ...]:
    """Parses a list of metrics such as "si_sdr,sdr". SI-SDR is always included, because it finds the permutation.

    Args:
        text: names of METRIC_NAMES, separated by commas.
        sample_rate: sample rate of the scored signals in Hz, if known.

    Raises:
        ValueError: a metric is unknown, its package is not installed, or it is not defined at this sample rate.
    """
    names = {name.strip() for name in text.split(",") if name.strip()}
    if unknown := sorted(names.difference(METRIC_NAMES)):
        raise ValueError(f"unknown metric {unknown[0]!r}; choose from {', '.join(METRIC_NAMES)}")
    for name in sorted(names & _INSTALLATION.keys()):
        package, installation = _INSTALLATION[name]
        if importlib.util.find_spec(package) is None:
            raise ValueError(f"the metric {name} needs the package {package}; install it with: {installation}")
    if "pesq" in names and sample_rate is not None and sample_rate not in PESQ_MODES:
        raise ValueError(f"pesq is not defined at {sample_rate} Hz; resample to {' or '.join(map(str, PESQ_MODES))} Hz")
    return tuple(name for name in METRIC_NAMES if name in names | {"si_sdr"})


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
        metrics: names of METRIC_NAMES; `si_sdr` is ignored.

    Returns:
        The values of every source by metric, NaN where a metric is not defined: SDR and its improvement over the
        mixture in dB (`sdr`, `sdri`), `stoi`, `estoi`, `pesq`.

    Raises:
        ValueError: the signals differ in length, or PESQ is requested at a sample rate at which it is not defined.
        ModuleNotFoundError: the package of a metric is not installed.
    """
    figures: dict[str, Float[np.ndarray, " c"]] = {}
    pairs = list(zip(estimates_ct, references_ct, strict=True))
    if "sdr" in metrics:
        sdr_c, baseline_c = np.transpose([sdr(np.stack([estimate, mixture_t]), truth) for estimate, truth in pairs])
        figures |= {"sdr": sdr_c, "sdri": sdr_c - baseline_c}
    perceptual: dict[str, Callable[..., float]] = {
        "stoi": stoi,
        "estoi": lambda *signals: stoi(*signals, extended=True),
        "pesq": pesq,
    }
    for name, figure in perceptual.items():
        if name in metrics:
            figures[name] = np.array(
                [figure(*pair, sample_rate) if np.isfinite(pair).all() else np.nan for pair in pairs]
            )
    # SI-SDR removes the mean, so a constant reference counts as silent; the other metrics follow it.
    silent_c = np.all(references_ct == references_ct[:, :1], axis=1)
    return {name: np.where(silent_c, np.nan, figure_c) for name, figure_c in figures.items()}
