"""Opens audio files; the only place where libsndfile reads and where its errors are translated into ours."""

from __future__ import annotations

import io
import os
from contextlib import ExitStack, nullcontext

import numpy as np
import soundfile
from jaxtyping import Float

from mossformer_jax.audio.chatter import without_chatter
from mossformer_jax.audio.containers import AudioBytes, find_audio, unclosed_caf
from mossformer_jax.audio.errors import AudioError, DamagedAudioError, EmptyAudioError, HeaderError, NotAudioError
from mossformer_jax.audio.kinds import HEAD_BYTES, describe
from mossformer_jax.audio.sources import AudioSource, BinaryFile, Tail, binary, name_of, rewound, size_of
from mossformer_jax.fields import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE

# Encodings of fixed size, in bytes per sample.
_SAMPLE_BYTES = {
    **{"PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1}
}
_COMPARED = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF")
# In these formats, a file with as many bytes as the samples take and a header of the usual size is not checked further.
_BELIEVED = ("WAV", "WAVEX", "AU")
_HEADER_BYTES = 128
_FRAMES_NOT_KNOWN = 2**63 - 1
# Frames per call, so that a damaged header does not reserve all memory.
_MOST_FRAMES = 2**22


class AudioFile:
    """An audio file opened for reading. All errors are one line that names the file.

    The length is what the file really contains: if the header of a PCM file declares no length, or one that has
    wrapped around at 2**32 bytes, all samples are read, with a warning. Files in which libsndfile cannot seek
    (GSM 6.10, G.721) are read from the start.

    Attributes:
        name: path of the file as given, or a description of an object without a path.
        sample_rate: in Hz.
        num_channels: number of channels.
        num_samples: samples per channel, 1 or more. An MP3 file may contain fewer.
        tolerance: 0: `num_samples` is exact.
        subtype: sample format, such as PCM_16, as libsndfile names it.
        warning: what was repaired, as the end of a sentence; None otherwise.
    """

    tolerance = 0

    def __init__(self, source: AudioSource):
        """Opens the file.

        Args:
            source: a path, the content of a file, or an open binary file.

        Raises:
            ValueError: it is not audio, its header contradicts its size or does not contain the length, or it contains
                no audio.
        """
        if isinstance(source, bytes | bytearray | memoryview):
            source = io.BytesIO(bytes(source))
        self._source: str | os.PathLike[str] | BinaryFile = source
        self.name = source if isinstance(source, str) else name_of(source)
        self.warning: str | None = None
        self._position = 0
        self._tail: AudioBytes | None = None
        self._opened: ExitStack | None = None
        self._file = self._open()
        try:
            self.sample_rate: int = self._file.samplerate
            self.num_channels: int = self._file.channels
            self.subtype: str = self._file.subtype
            self.num_samples: int = self._file.frames
            self._seekable: bool = self._file.seekable()
            self._format: str = self._file.format
            self._quietly = without_chatter() if self._format == "MP3" else nullcontext()
            self._check()
        except BaseException:
            self.close()
            raise
        # soundfile would seek after each read, which takes a tenth of the time in FLAC and fails in damaged files.
        self._file.seekable = lambda: False

    def __enter__(self) -> AudioFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; a second call has no effect."""
        self._file.close()
        if self._opened is not None:
            self._opened.close()

    @property
    def log(self) -> str:
        """What libsndfile notes about the header."""
        return self._file.extra_info

    def read(self, start: int, num_samples: int) -> Float[np.ndarray, "t channels"]:
        """Reads samples, float32, with integer formats scaled to +-1; fewer at the end of the file.

        Raises:
            ValueError: the file is damaged.
        """
        num_samples = max(min(num_samples, self.num_samples - start), 0)
        self._go_to(start)
        if num_samples <= _MOST_FRAMES:
            return self._next(num_samples)
        pieces = [self._next(_MOST_FRAMES)]
        while len(pieces[-1]) == _MOST_FRAMES and self._position < start + num_samples:
            pieces.append(self._next(min(_MOST_FRAMES, start + num_samples - self._position)))
        return np.concatenate(pieces)

    def _next(self, num_samples: int) -> np.ndarray:
        position, self._position = self._position, -1
        try:
            with self._quietly:
                frames = self._file.read(num_samples, dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, RuntimeError, MemoryError) as error:
            raise self._damaged(position, error) from error
        self._position = position + len(frames)
        return frames

    def _go_to(self, start: int) -> None:
        if start == self._position:
            return
        if self._seekable:
            try:
                with self._quietly:
                    self._file.seek(start)
            except (soundfile.LibsndfileError, RuntimeError) as error:
                raise self._damaged(start, error) from error
            self._position = start
            return
        if not 0 <= self._position <= start:
            self._file.close()
            self._file, self._position = self._open(), 0
            self._file.seekable = lambda: False
        while self._position < start and len(self._next(min(start - self._position, _MOST_FRAMES))):
            pass

    def _open(self) -> soundfile.SoundFile:
        """Opens the file, or only its samples if its header is wrong."""
        source = self._source
        try:
            with without_chatter():
                if self._tail is not None:
                    return self._open_tail(self._tail)
                if isinstance(source, str | os.PathLike):
                    return soundfile.SoundFile(for_libsndfile(source))
                return soundfile.SoundFile(rewound(source))
        except (soundfile.LibsndfileError, TypeError, RuntimeError) as error:  # TypeError: a headerless .raw file
            opened = self._open_unclosed_caf()
            if opened is not None:
                return opened
            raise not_audio(source, error) from error

    def _open_unclosed_caf(self) -> soundfile.SoundFile | None:
        """Opens a CAF file whose audio has the size 0, which libsndfile refuses; None for any other file."""
        try:
            with binary(self._source) as file:
                head = unclosed_caf(file, size_of(self._source))
            if head is not None:
                file = self._kept_open()
                return soundfile.SoundFile(Tail(file, 0, size_of(self._source), head))
        except (soundfile.LibsndfileError, OSError):
            pass
        return None

    def _kept_open(self) -> BinaryFile:
        """The file for reading by Python, until `close`."""
        self._opened = self._opened or ExitStack()
        return self._opened.enter_context(binary(self._source))

    def _open_tail(self, tail: AudioBytes) -> soundfile.SoundFile:
        file = self._kept_open()
        stream = Tail(file, tail.start, tail.start + tail.present)
        order = "BIG" if tail.big_endian else "LITTLE"
        return soundfile.SoundFile(stream, "r", self.sample_rate, self.num_channels, self.subtype, order, "RAW")

    def _check(self) -> None:
        if not MIN_SAMPLE_RATE <= self.sample_rate <= MAX_SAMPLE_RATE:
            raise HeaderError(
                f"{self.name}: its header declares a sample rate of {self.sample_rate} Hz; it must be from "
                f"{MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE:,} Hz; correct the header, or convert the file again"
            )
        self._compare_lengths()
        if self.num_samples == _FRAMES_NOT_KNOWN:
            raise HeaderError(
                f"{self.name}: its header does not contain the length (it was written to a pipe); "
                "convert it again, from file to file"
            )
        if self.num_samples <= 0:
            raise EmptyAudioError(no_audio(self.name, self.sample_rate))

    def _compare_lengths(self) -> None:
        """Reads all samples of a PCM file whose header declares too few, or refuses the file."""
        if self._format not in _COMPARED:
            return
        frame_bytes = _SAMPLE_BYTES.get(self.subtype, 0) * self.num_channels
        size = size_of(self._source)
        believed = self._format in _BELIEVED and frame_bytes and self.num_samples
        if believed and 0 <= size - self.num_samples * frame_bytes <= _HEADER_BYTES:
            return
        with binary(self._source) as file:
            audio = find_audio(file, size)
        if audio is None or audio.declared >= audio.present:
            if audio is not None and frame_bytes and self._format == "W64":
                # libsndfile reads the chunks after the audio of a W64 file as if they were audio.
                self.num_samples = min(self.num_samples, audio.present // frame_bytes)
            return
        if not (audio.certain and frame_bytes):
            raise HeaderError(self._contradiction(audio, frame_bytes))
        num_samples = audio.present // frame_bytes
        self.warning = (
            f"its header declares {audio.declared:,} bytes of audio, but {audio.present:,} are there "
            f"({num_samples / self.sample_rate:.2f} s); all of them are used"
        )
        if num_samples != self.num_samples:
            self._tail = audio
            self._file.close()
            self._file = self._open()
            self.num_samples, self._seekable = num_samples, True

    def _contradiction(self, audio: AudioBytes, frame_bytes: int) -> str:
        seconds = ""
        if frame_bytes:
            declared, present = (length / frame_bytes / self.sample_rate for length in (audio.declared, audio.present))
            seconds = f" ({declared:.2f} s of {present:.2f} s)"
        return (
            f"{self.name}: its header declares {audio.declared:,} bytes of audio, but {audio.present:,} follow"
            f"{seconds}; copy it again, or repair the header, for example: sox --ignore-length INPUT OUTPUT.wav"
        )

    def _damaged(self, position: int, error: Exception) -> DamagedAudioError:
        return DamagedAudioError(
            f"{self.name}: is damaged or cut short: cannot be read beyond sample {position} of {self.num_samples} "
            f"({libsndfile_reason(error)}); copy or convert it again"
        )


def not_audio(source: AudioSource, error: Exception) -> AudioError:
    """The exception to raise for a file that libsndfile does not open; it names the kind of file, if that is known."""
    try:
        size = size_of(source)
        with binary(source) as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        head, size = b"", -1
    if size == 0:
        return EmptyAudioError(f"{name_of(source)}: is empty (0 bytes); record or copy it again")
    what, advice = describe(head, size) if head else None, "convert it to WAV or FLAC"
    reason = libsndfile_reason(error)
    if what is not None:
        reason, advice = f"it is {what[0]}", what[1]
    return NotAudioError(f"{name_of(source)}: cannot be read as audio ({reason}); {advice}")


def no_audio(name: str, sample_rate: int) -> str:
    """The message for a file without samples."""
    return f"{name}: contains no audio (0 samples at {sample_rate} Hz); record or copy it again"


def libsndfile_reason(error: Exception) -> str:
    """The error message of libsndfile without prefix and full stop."""
    return getattr(error, "error_string", str(error)).strip().rstrip(".")


def for_libsndfile(path: str | os.PathLike[str]) -> str | bytes:
    """The path as bytes, because soundfile fails for names that are not UTF-8 (as in old archives)."""
    return str(path) if os.name == "nt" else os.fsencode(path)
