"""The interface of a corpus: utterances (or noise recordings) with speaker labels."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

# Label of all unidentified speakers, who are treated as one speaker.
UNKNOWN_SPEAKER = "unknown"


@runtime_checkable
class Speech(Protocol):
    """Random access to utterances (or noise recordings). It must be picklable, for worker processes.

    Attributes:
        sample_rate: sample rate of all waveforms returned, in Hz.
        speaker_names: names of all speakers, without duplicates.
        speakers: speaker of each utterance, as a position in `speaker_names`.
    """

    sample_rate: int
    speaker_names: tuple[str, ...]
    speakers: Int[np.ndarray, " n"]

    def __len__(self) -> int:
        """Number of utterances."""

    def name(self, index: int) -> str:
        """Name of an utterance."""

    def num_samples(self, index: int) -> int:
        """Length of an utterance in samples at `sample_rate`; decodes no audio."""

    def read(self, index: int, start: int = 0, num_samples: int | None = None) -> Float[np.ndarray, " t"]:
        """Reads an utterance, or `num_samples` of it from sample `start`; None reads to its end.

        Raises:
            FileNotFoundError, ValueError: the file is missing or corrupt; the message names it.
        """
