"""Windows over a long recording: where they start, and how their sources are joined by cross-fades."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Float


def window_starts(num_samples: int, window: int, hop: int) -> list[int]:
    """First samples of the windows that cover a recording: one every `hop`; the last ends where the recording ends.

    Args:
        num_samples: length of the recording, at least `window`.
        window: length of each window, in samples.
        hop: distance between the starts of consecutive windows, in samples, from half a window to a whole window.
    """
    return [*range(0, num_samples - window, hop), num_samples - window]


def crossfade(
    windows: Callable[[int], Float[np.ndarray, "*rows t"]], starts: Sequence[int], window: int, hop: int
) -> Iterator[Float[np.ndarray, "*rows t"]]:
    """Joins overlapping windows, with fades whose weights sum to one at every sample.

    The last two windows may overlap by more than the others. Their fade has the same length, so that fades never
    overlap.

    Args:
        windows: returns the samples of a window by its index, `window` samples long; called once for each, in order.
        starts: their first samples, from `window_starts`.
        window: length of each window, in samples.
        hop: distance between the starts of consecutive windows, in samples.

    Yields:
        The recording, block by block.
    """
    rise = fade_in(window - hop)
    fading: np.ndarray | None = None
    for number, start in enumerate(starts):
        samples, begin = windows(number), 0
        if fading is not None:
            # The fade from the previous window begins `hop` samples after that window's start.
            begin = starts[number - 1] + hop - start
            yield fading + samples[..., begin : begin + len(rise)] * rise
            begin += len(rise)
        if number == len(starts) - 1:
            yield samples[..., begin:]
        else:
            if begin < hop:  # windows that overlap by half consist of fades only
                yield samples[..., begin:hop]
            fading = samples[..., hop:] * (1 - rise)


def fade_in(num_samples: int) -> Float[np.ndarray, " t"]:
    """Weights that rise from 0 to 1 along a squared sine; 1 minus them is their mirror image."""
    return np.square(np.sin(np.pi / 2 * (np.arange(num_samples) + 0.5) / num_samples)).astype(np.float32)
