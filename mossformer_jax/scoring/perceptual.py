"""STOI, ESTOI and PESQ, which predict the intelligibility and the quality of a separated source.

STOI: Taal, Hendriks, Heusdens, Jensen, IEEE TASLP 19(7), 2011, at 10 kHz. ESTOI: Jensen, Taal, IEEE/ACM TASLP 24(11),
2016. Both are computed by the package pystoi (extra `eval`) and range from about 0 to 1. PESQ: ITU-T P.862, narrow band
(P.862.1) at 8 kHz and wide band (P.862.2) at 16 kHz, computed by the package pesq. It is a mean opinion score from
about 1 to 4.6.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from mossformer_jax.scoring.metric import HostFunction, Metric

PESQ_MODES = {8000: "nb", 16_000: "wb"}
# pystoi uses frames of 25.6 ms and fails on signals that are shorter than one frame.
_MIN_STOI_SECONDS = 0.0256


def stoi(
    estimate_t: Float[np.ndarray, " t"],
    reference_t: Float[np.ndarray, " t"],
    sample_rate: int,
    *,
    extended: bool = False,
) -> float:
    """STOI, or ESTOI with `extended`; NaN if the reference is silent or has less than about 0.4 s of speech.

    Raises:
        ValueError: the signals differ in length.
        ModuleNotFoundError: pystoi is not installed.
    """
    import pystoi

    _check_lengths(estimate_t, reference_t)
    if not reference_t.any() or len(reference_t) <= _MIN_STOI_SECONDS * sample_rate:
        return np.nan
    with warnings.catch_warnings():
        # pystoi would return 1e-5 here, which must not enter an average.
        warnings.filterwarnings("error", message="Not enough STFT frames", category=RuntimeWarning)
        try:
            return float(pystoi.stoi(reference_t, estimate_t, sample_rate, extended=extended))
        except RuntimeWarning:
            return np.nan


def pesq(estimate_t: Float[np.ndarray, " t"], reference_t: Float[np.ndarray, " t"], sample_rate: int) -> float:
    """PESQ, narrow band at 8 kHz, wide band at 16 kHz; NaN if no speech is found or the signals last less than 0.25 s.

    Raises:
        ValueError: the sample rate is neither 8 nor 16 kHz, or the signals differ in length.
        ModuleNotFoundError: the package pesq is not installed.
    """
    if sample_rate not in PESQ_MODES:
        raise ValueError(f"PESQ is not defined at {sample_rate} Hz; resample to {' or '.join(map(str, PESQ_MODES))} Hz")
    import pesq as package

    _check_lengths(estimate_t, reference_t)
    # The package pesq divides zero by zero if a signal is silent.
    if not reference_t.any() or not estimate_t.any():
        return np.nan
    try:
        return float(package.pesq(sample_rate, reference_t, estimate_t, PESQ_MODES[sample_rate]))
    except (package.NoUtterancesError, package.BufferTooShortError):
        return np.nan


def _check_lengths(estimate_t: np.ndarray, reference_t: np.ndarray) -> None:
    if len(estimate_t) != len(reference_t):
        raise ValueError(
            f"estimate has {len(estimate_t)} samples and reference {len(reference_t)}: cut or pad to one length"
        )


def _one_by_one(score: Callable[..., float], **options: bool) -> HostFunction:
    return lambda estimates, reference, sample_rate: [score(x, reference, sample_rate, **options) for x in estimates]


STOI = Metric("stoi", "STOI", decimals=3, on_host=_one_by_one(stoi), package="pystoi")
ESTOI = Metric("estoi", "ESTOI", decimals=3, on_host=_one_by_one(stoi, extended=True), package="pystoi")
PESQ = Metric(
    "pesq",
    "PESQ",
    on_host=_one_by_one(pesq),
    package="pesq",
    installation="pip install pesq (it needs a C compiler)",
    sample_rates=tuple(PESQ_MODES),
)
