"""Constant delays between estimates and references, which SI-SDR counts as distortion: 1 ms can cost 18 dB."""

from __future__ import annotations

import numpy as np
import scipy.fft
from jaxtyping import Float

# Longest delay that can be found, in seconds, and the part of a recording that is used, in samples from its start.
MAX_DELAY_SECONDS = 1.0
_MOST_SAMPLES = 2**19
# A delay is reported if it raises the mean SI-SDR (up to a gain) by this many dB, and if enough of the estimates is
# then explained by the references to rule out chance.
_LEAST_GAIN_DB = 1.0
_LEAST_COHERENCE = 0.2


def find_delay(
    references_ct: Float[np.ndarray, "c t"], estimates_ct: Float[np.ndarray, "c t"], sample_rate: int
) -> int:
    """The delay of the estimates behind the references in samples, by cross-correlation; negative if they are early.

    The order, sign and level of the estimates do not matter. 0 if no delay makes a difference.
    """
    length = min(references_ct.shape[1], estimates_ct.shape[1], _MOST_SAMPLES)
    references_ct, estimates_ct = (
        signals[:, :length] - signals[:, :length].mean(axis=1, keepdims=True)
        for signals in (references_ct, estimates_ct)
    )
    most = min(round(MAX_DELAY_SECONDS * sample_rate), length - 1)
    size = scipy.fft.next_fast_len(length + most, real=True)
    spectra = [scipy.fft.rfft(signals, size, axis=1) for signals in (references_ct, estimates_ct)]
    norms = [np.linalg.norm(signals, axis=1) for signals in (references_ct, estimates_ct)]
    # By lag, from -most to most: the squared correlation of each reference with its best estimate, averaged.
    coherence_l = np.zeros(2 * most + 1)
    counted = np.flatnonzero(norms[0])
    for reference in counted:
        best_l = np.zeros(2 * most + 1)
        for estimate in np.flatnonzero(norms[1]):
            products = scipy.fft.irfft(np.conj(spectra[0][reference]) * spectra[1][estimate], size)
            lags_l = np.concatenate([products[size - most :], products[: most + 1]])
            best_l = np.maximum(best_l, np.square(lags_l / (norms[0][reference] * norms[1][estimate])))
        coherence_l += best_l / len(counted)
    best = int(coherence_l.argmax())
    gain_db = _as_si_sdr_db(coherence_l[best]) - _as_si_sdr_db(coherence_l[most])
    return best - most if coherence_l[best] >= _LEAST_COHERENCE and gain_db >= _LEAST_GAIN_DB else 0


def undo_delay(waveform: Float[np.ndarray, "*c t"], delay: int, *, of_estimates: bool) -> Float[np.ndarray, "*c u"]:
    """Cuts a signal to the part in which the references and the shifted estimates overlap.

    Args:
        waveform: estimates, references or a mixture.
        delay: the delay of the estimates in samples, as returned by `find_delay`.
        of_estimates: whether the signal is made of estimates.
    """
    cut = max(delay, 0) if of_estimates else max(-delay, 0)
    return waveform[..., cut : waveform.shape[-1] - abs(delay) + cut]


def describe_delays(delays: list[int], sample_rate: int, *, undone: bool) -> str | None:
    """One line about the delays of a set of utterances, in samples; None if there are no delays."""
    found = sorted(delay for delay in delays if delay)
    if not found:
        return None

    def text(delay: int) -> str:
        return f"{abs(delay)} samples ({abs(delay) / sample_rate * 1000:.2f} ms) {'late' if delay > 0 else 'early'}"

    size = text(found[0]) if found[0] == found[-1] else f"from {text(found[0])} to {text(found[-1])}"
    of = "" if len(delays) == 1 else f" of {len(found)} of {len(delays)} mixtures"
    advice = "this has been undone" if undone else "SI-SDR counts this as distortion; --align undoes it"
    return f"the estimates{of} are {size}, compared with the references: {advice}"


def _as_si_sdr_db(coherence: float) -> float:
    """The SI-SDR in dB of an estimate whose squared correlation with the reference is `coherence`."""
    return float(10 * np.log10((coherence + 1e-9) / (1 - min(coherence, 1.0) + 1e-9)))
