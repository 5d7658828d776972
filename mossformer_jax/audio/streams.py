"""Reading and writing audio files in blocks, so that recordings of any length fit in memory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
import soundfile
from jaxtyping import Float

from mossformer_jax.audio.containers import LENGTH_NOT_KNOWN
from mossformer_jax.audio.errors import EmptyAudioError, NotAudioError, NotFiniteAudioError, UnwritableAudioError
from mossformer_jax.audio.media import open_audio
from mossformer_jax.audio.opening import for_libsndfile, libsndfile_reason, no_audio
from mossformer_jax.audio.resampling import check_sample_rate, resample_blocks
from mossformer_jax.audio.sources import AudioSource

__all__ = ["AudioReader", "AudioWriter", "resample_blocks"]

PCM_BITS = {"PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
SUBTYPES = (*PCM_BITS, "FLOAT")
FORMATS = ("WAV", "FLAC")
# The limit of the 32-bit sizes in a WAV file, with room for its header.
MAX_WAV_BYTES = 2**32 - 2**12

# If the size declared in a header differs from the size of the file, libsndfile's log contains both.
_DECLARED_SIZE = re.compile(r"^ *(?:data|SSND|Data Size|Riff size|riff) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
# Samples of all channels in a block: a file may have a thousand channels.
_BLOCK_VALUES = 2**22


class AudioReader:
    """An audio file, read in blocks in a `with` statement.

    These are WAV, FLAC, Ogg, MP3 and the other formats of libsndfile, and with the extra `video` all formats of FFmpeg.

    Attributes:
        path: the file; for an object without a path, a description of it.
        sample_rate: in Hz.
        num_channels: number of channels.
        num_samples: number of samples per channel. An MP3 file may contain fewer.
        is_estimate: whether `num_samples` is an estimate, as in videos.
        subtype: sample format, such as PCM_16, as libsndfile names it.
        warning: a one-line message if the file seems to be cut short, or if its header declares less audio than it
            contains; otherwise None. For formats in which only reading reveals this, it is set when `blocks` reaches
            the end.
    """

    def __init__(self, source: AudioSource, track: int = 1):
        """Opens the file and reads its header.

        Args:
            source: a path, the content of a file (bytes), or an open binary file.
            track: number of the audio track, from 1, in a video.

        Raises:
            FileNotFoundError: there is no such file.
            PermissionError: read access is denied.
            ValueError: the file is a folder, is empty, is not audio, or its header does not contain its length or
                contradicts its size.
        """
        if isinstance(source, str | os.PathLike):
            _check_file(Path(source))
        self._file = open_audio(source, track)
        self.path = Path(self._file.name)
        self.sample_rate = self._file.sample_rate
        self.num_channels = self._file.num_channels
        self.num_samples = self._file.num_samples
        self.is_estimate = self._file.tolerance > 0
        self.subtype = self._file.subtype
        repaired = self._file.warning
        self.warning = self._cut_short() if repaired is None else f"{self.path}: {repaired}"

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def blocks(self, num_samples: int) -> Iterator[Float[np.ndarray, "channels t"]]:
        """Reads the file from start to end.

        Args:
            num_samples: samples per block; the last block may have fewer, and all have fewer in files with many
                channels.

        Yields:
            Blocks (channels, t), float32, with integer formats scaled to +-1.

        Raises:
            ValueError: the file is damaged, or contains NaN or infinity; the message gives the first such sample.
        """
        start = 0
        num_samples = max(min(num_samples, _BLOCK_VALUES // self.num_channels), 1)
        while len(frames := self._file.read(start, num_samples)):
            finite = np.isfinite(frames).all(axis=1)
            if not finite.all():
                raise NotFiniteAudioError(
                    f"{self.path}: contains NaN or infinity, first at sample {start + finite.argmin()}; "
                    "write it again from a clean source"
                )
            yield np.ascontiguousarray(frames.T)
            start += len(frames)
        if start == 0:
            raise EmptyAudioError(no_audio(self._file.name, self.sample_rate))
        if start < self.num_samples - self._file.tolerance:
            self.warning = (
                f"{self.path}: seems to be cut short: its header declares {self.num_samples} samples, but only {start} "
                "can be read; these are used"
            )

    def _cut_short(self) -> str | None:
        for declared, found in _DECLARED_SIZE.findall(self._file.log):
            if int(declared) > int(found) and int(declared) not in LENGTH_NOT_KNOWN:
                return (
                    f"{self.path}: seems to be cut short: its header declares {declared} bytes, but only {found} are "
                    "there; these are used"
                )
        return None


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise NotAudioError(f"{path}: is a folder; give an audio file")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; check the path")
    if not os.access(path, os.R_OK):
        raise PermissionError(f"{path}: no permission to read the file; change its mode or owner")
    if not path.is_file():
        raise NotAudioError(f"{path}: is not a regular file; give an audio file")
    if path.stat().st_size == 0:
        raise EmptyAudioError(f"{path}: is empty (0 bytes); record or copy it again")


class Header(NamedTuple):
    """The header of an audio file: samples per channel, channels, and length in seconds."""

    num_samples: int
    num_channels: int
    duration: float


def read_header(path: str | os.PathLike[str]) -> Header | None:
    """The header of a file; None if it cannot be read."""
    try:
        with AudioReader(path) as reader:
            return Header(reader.num_samples, reader.num_channels, reader.num_samples / reader.sample_rate)
    except (OSError, ValueError):
        return None


class AudioWriter:
    """An audio file that is written in blocks in a `with` statement and appears under its name only when complete.

    Until then it is in the same folder as `.NAME.PID.part`. An exception in the `with` statement (including a keyboard
    interrupt) removes it, and an existing file of that name is kept.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        sample_rate: int,
        subtype: str = "PCM_16",
        num_channels: int = 1,
        num_samples: int | None = None,
    ):
        """Checks the arguments.

        Args:
            path: the file, ending in .wav or .flac, in an existing folder; an existing file is replaced.
            sample_rate: in Hz.
            subtype: PCM_16, PCM_24, PCM_32 (within +-1) or FLOAT (any level); FLAC supports only the first two.
            num_channels: number of channels.
            num_samples: total number of samples per channel, if known. A WAV file too large for 32-bit sizes (4 GiB) is
                then written as RF64, which has 64-bit sizes.

        Raises:
            FileNotFoundError: there is no such folder.
            ValueError: the suffix or the subtype is unknown, the format does not support the subtype, the sample rate
                is not a positive whole number, or the path is a folder.
        """
        self.path = Path(path)
        self._format = self.path.suffix.lstrip(".").upper()
        if subtype not in SUBTYPES:
            raise ValueError(f"subtype={subtype!r} is not allowed: must be one of {', '.join(SUBTYPES)}")
        if self._format not in FORMATS or not soundfile.check_format(self._format, subtype):
            raise ValueError(
                f"{self.path}: does not support {subtype}; use the suffix .wav, or .flac for PCM_16 and PCM_24"
            )
        check_sample_rate(sample_rate)
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"{self.path}: not written: there is no folder {self.path.parent}; create it first")
        if self.path.is_dir():
            raise ValueError(f"{self.path}: not written: it is a folder; give another name")
        self._sample_rate, self._subtype, self._num_channels = int(sample_rate), subtype, num_channels
        self._bytes_per_sample = num_channels * PCM_BITS.get(subtype, 32) // 8
        self._num_written = 0
        if self._is_too_large(num_samples or 0):
            self._format = "RF64"
        self._unfinished = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")

    def __enter__(self) -> AudioWriter:
        with self._named_errors():
            self._file = soundfile.SoundFile(
                for_libsndfile(self._unfinished),
                "w",
                self._sample_rate,
                self._num_channels,
                self._subtype,
                format=self._format,
            )
        return self

    def write(self, waveform: Float[np.ndarray, "channels t"]) -> None:
        """Appends a block.

        Raises:
            ValueError: the block has a different number of channels, contains NaN or infinity, or exceeds +-1 in a
                subtype that would clip it; or the file would exceed the limit of its format, or the disk is full.
        """
        waveform = np.asarray(waveform)
        if waveform.ndim != 2 or len(waveform) != self._num_channels:
            raise ValueError(
                f"{self.path}: not written: a block has shape {waveform.shape}; "
                f"must be (channels, t) with {self._num_channels} channel(s)"
            )
        peak = np.abs(waveform).max(initial=0.0)
        if not np.isfinite(peak):
            raise ValueError(f"{self.path}: not written: the waveform contains NaN or infinity")
        if self._subtype in PCM_BITS and peak > 1.0:
            raise ValueError(
                f"{self.path}: not written: {self._subtype} would clip a peak of {peak:.3g}; scale it, or use FLOAT"
            )
        self._num_written += waveform.shape[1]
        if self._is_too_large(self._num_written):
            raise ValueError(
                f"{self.path}: not written: it would exceed the 4 GiB limit of a WAV file; write FLAC, or give "
                "num_samples to write RF64"
            )
        bits = PCM_BITS.get(self._subtype)
        samples = _quantise(waveform, bits) if bits else waveform.astype(np.float32)
        with self._named_errors():
            self._file.write(samples.T)

    def close(self) -> None:
        """Completes the file on disk, still under its temporary name. Leaving the `with` statement does this, too.

        To write several files together, close all of them before leaving any `with` statement.

        Raises:
            ValueError: the disk is full.
        """
        if self._file.closed:
            return
        with self._named_errors():
            self._file.close()
        with self._unfinished.open("rb+") as file:
            os.fsync(file.fileno())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                with suppress(soundfile.LibsndfileError):
                    self._file.close()
                return
            self.close()
            os.replace(self._unfinished, self.path)
        finally:
            self._unfinished.unlink(missing_ok=True)

    def _is_too_large(self, num_samples: int) -> bool:
        return self._format == "WAV" and num_samples * self._bytes_per_sample > MAX_WAV_BYTES

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        # AssertionError: soundfile raises it for a FLAC block that did not fit on the disk.
        except (soundfile.LibsndfileError, AssertionError) as error:
            reason = libsndfile_reason(error) or "incomplete write"
            raise UnwritableAudioError(
                f"{self.path}: cannot be written ({reason}); check the folder's permissions and free space"
            ) from error


def _quantise(waveform: np.ndarray, bits: int) -> np.ndarray:
    """Rounds to the nearest step of `bits`-bit PCM, as int32, because libsndfile would round down in WAV files."""
    steps = 2.0 ** (bits - 1)
    levels = np.clip(np.rint(waveform.astype(np.float64) * steps), -steps, steps - 1)
    return (levels * 2.0 ** (32 - bits)).astype(np.int32)
