"""SDR of BSS-eval version 3, which separation papers report as SDR next to SI-SDR.

Vincent, Gribonval, Fevotte, "Performance measurement in blind audio source separation", IEEE TASLP 14(4), 2006, section
III, with the time-invariant distortion filter of 512 taps that published results use:

    target = P(estimate), the orthogonal projection onto the span of the reference delayed by 0 to 511 samples
    SDR = 10 log10(||target||^2 / ||estimate - target||^2)

The mean is not removed. The filter is the solution of a Toeplitz system. Its correlations are computed by FFT
(Scheibler, "SDR - medium rare with fast computations", ICASSP 2022). Everything runs in float64 on the host.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.fft import irfft, next_fast_len, rfft
from scipy.linalg import LinAlgError, lstsq, solve_toeplitz, toeplitz

from mossformer_jax.scoring.metric import Metric
from mossformer_jax.scoring.si_sdr import MAX_DB, MIN_DB

NUM_TAPS = 512
# Relative residual of the Toeplitz solver. Below this limit the SDR is exact to 1e-3 dB; where the recursion breaks
# down, the residual is far above it.
_MAX_RESIDUAL = 1e-8


def sdr(
    estimates_kt: Float[np.ndarray, "k t"], reference_t: Float[np.ndarray, " t"], *, num_taps: int = NUM_TAPS
) -> Float[np.ndarray, " k"]:
    """SDR of several estimates of one reference. Further estimates cost little, for example the mixture as a baseline.

    Args:
        estimates_kt: estimated signals, or other signals to measure against the reference.
        reference_t: the true signal.
        num_taps: length of the distortion filter in samples.

    Returns:
        SDR in dB within [MIN_DB, MAX_DB], float64: MIN_DB for a silent estimate, MAX_DB for an estimate that is a
        filtered reference. NaN if the reference is silent or any signal is not finite, as the SDR is undefined there.

    Raises:
        ValueError: the signals differ in length.
    """
    if estimates_kt.shape[-1] != len(reference_t):
        raise ValueError(
            f"estimate has {estimates_kt.shape[-1]} samples and reference {len(reference_t)}: cut or pad to one length"
        )
    estimates_kt, reference_t = (np.asarray(x, np.float64) for x in (estimates_kt, reference_t))
    if not (reference_t.any() and np.isfinite(reference_t).all() and np.isfinite(estimates_kt).all()):
        return np.full(len(estimates_kt), np.nan)
    size = next_fast_len(len(reference_t) + num_taps - 1, real=True)
    reference_spectrum, spectra = rfft(reference_t, size), rfft(estimates_kt, size)
    autocorrelation = irfft(np.square(np.abs(reference_spectrum)), size)[:num_taps]
    correlations = irfft(reference_spectrum.conj() * spectra, size)[:, :num_taps]

    gram = toeplitz(autocorrelation)
    filters = _solve(autocorrelation, gram, correlations)
    # The energies are those of the reference after these very filters. A filter that is slightly off the optimum then
    # gives an SDR that is slightly too low, never one that is too high.
    energy = np.sum(estimates_kt**2, axis=1)
    target = np.sum(filters * (filters @ gram), axis=1)
    error = energy - 2 * np.sum(filters * correlations, axis=1) + target
    with np.errstate(divide="ignore", invalid="ignore"):
        figures = 10 * np.log10(target / np.maximum(error, 0.0))
    return np.clip(np.where(energy > 0, figures, MIN_DB), MIN_DB, MAX_DB)


def _solve(
    autocorrelation: Float[np.ndarray, " n"], gram: Float[np.ndarray, "n n"], correlations: Float[np.ndarray, "k n"]
) -> Float[np.ndarray, "k n"]:
    """Solves `filters @ gram = correlations` for the filters, one per row."""
    try:
        with np.errstate(all="ignore"):
            filters = solve_toeplitz(autocorrelation, correlations.T).T
            residuals = np.linalg.norm(filters @ gram - correlations, axis=1)
        if np.all(residuals <= _MAX_RESIDUAL * np.linalg.norm(correlations, axis=1)):
            return filters
    except LinAlgError:
        pass
    # The reference has no energy in much of the band. Recordings of 16 bits do not reach this point.
    return lstsq(gram, correlations.T)[0].T


SDR = Metric("sdr", "SDR", unit="dB", improves=True, on_host=lambda estimates, reference, _: sdr(estimates, reference))
