"""Errors that are properties of a recording, so that a long run can count them by class."""

from __future__ import annotations


class AudioError(ValueError):
    """A recording that cannot be used.

    Attributes:
        kind: one word for the class of the error.
    """

    kind = "unusable"

    def renamed(self, message: str) -> AudioError:
        """An error of the same class with another message."""
        return type(self)(message)


class EmptyAudioError(AudioError):
    """The file has no bytes or no samples."""

    kind = "empty"


class NotAudioError(AudioError):
    """The file is not audio, or in a format that is not supported."""

    kind = "not_audio"


class HeaderError(AudioError):
    """The header contradicts the content, or its values are not allowed."""

    kind = "header"


class DamagedAudioError(AudioError):
    """The file cannot be read beyond some sample."""

    kind = "damaged"


class NotFiniteAudioError(AudioError):
    """The recording contains NaN or infinity."""

    kind = "not_finite"


class TooShortAudioError(AudioError):
    """The recording is shorter than the network's kernel."""

    kind = "too_short"


class UnwritableAudioError(AudioError):
    """A file cannot be written. This can pass, unlike the other errors."""

    kind = "output"
