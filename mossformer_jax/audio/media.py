"""Opens video and phone files (MP4, M4A, WebM, AMR, ...) with PyAV; its errors are translated into ours here.

PyAV contains FFmpeg. It belongs to the extra `video`, and is only used for files that libsndfile does not read.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
from jaxtyping import Float

from mossformer_jax.audio.errors import DamagedAudioError, EmptyAudioError, HeaderError, NotAudioError
from mossformer_jax.audio.kinds import HEAD_BYTES, media_kind
from mossformer_jax.audio.opening import AudioFile
from mossformer_jax.audio.sources import AudioSource, BinaryFile, binary, name_of
from mossformer_jax.fields import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE

# Not playlists and other formats that refer to further files or addresses, nor those that libsndfile reads: FFmpeg has
# crashed on damaged files of the latter.
_CONTAINERS = "mov,matroska,webm,ogg,aac,amr,amrnb,amrwb,asf,flv,avi,wv,ape,mpegts,mpeg,rm,tta,dsf,iff,ac3,eac3"
_LOSSLESS = ("alac", "flac", "tta", "wavpack", "ape", "tak", "shorten", "mlp", "truehd")
# Packets before the first complete one, in a recording that starts in the middle of a broadcast.
_MOST_INCOMPLETE = 50


def can_read_media() -> bool:
    """Whether PyAV is installed."""
    return importlib.util.find_spec("av") is not None


def open_audio(source: AudioSource, track: int = 1) -> AudioFile | MediaFile:
    """Opens a file with libsndfile, or with PyAV if libsndfile does not read it and PyAV is installed.

    Args:
        source: a path, the content of a file, or an open binary file.
        track: number of the audio track, from 1.

    Raises:
        ValueError: as `AudioFile` and `MediaFile`.
    """
    try:
        file = AudioFile(source)
    except NotAudioError:
        # Only what is recognised as media: other files are more likely damaged recordings.
        if not can_read_media() or not _is_media(source):
            raise
        return MediaFile(source, track)
    if track > 1:
        file.close()
        raise NotAudioError(f"{file.name}: has no audio track {track}, only 1; omit --track")
    return file


def _is_media(source: AudioSource) -> bool:
    with binary(source) as file:
        return media_kind(file.read(HEAD_BYTES)) is not None


class _Input:
    """A file for PyAV, which prints a traceback if its seek raises an exception."""

    def __init__(self, file: BinaryFile):
        self._file = file
        self.read, self.tell = file.read, file.tell

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError):
            return -1


class MediaFile:
    """An audio track of a video or phone file, with the interface of `AudioFile`. It is decoded as it is read.

    Attributes:
        name: path of the file as given, or a description of an object without a path.
        sample_rate: in Hz.
        num_channels: number of channels.
        num_samples: samples per channel according to the container; the decoder may return slightly more or fewer.
        tolerance: by how many samples per channel `num_samples` may be wrong.
        subtype: sample format of lossless tracks, such as PCM_24, else the name of the codec, such as AAC.
        warning: always None.
        log: always empty.
    """

    def __init__(self, source: AudioSource, track: int = 1):
        """Opens the file and decodes the start of the track.

        Args:
            source: a path, the content of a file, or an open binary file.
            track: number of the audio track, from 1.

        Raises:
            ValueError: FFmpeg does not read it, or it has no such track, or the track has no audio.
        """
        self._source, self._track = source, track
        self.name = source if isinstance(source, str) else name_of(source)
        self.warning: str | None = None
        self.log = ""
        self._opened = ExitStack()
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the file; a second call has no effect."""
        self._opened.close()

    def read(self, start: int, num_samples: int) -> Float[np.ndarray, "t channels"]:
        """Reads samples, float32, with integer formats scaled to +-1; fewer at the end of the track.

        Reading backwards starts again from the beginning.

        Raises:
            ValueError: the track is damaged.
        """
        if start < self._position:
            self.close()
            self._start()
        self._take(start - self._position)
        return self._take(num_samples)

    def _start(self) -> None:
        import av

        container: Any
        try:
            # Python opens the file, because FFmpeg takes some names for addresses.
            file = self._opened.enter_context(binary(self._source))
            file.seek(0)
            container = self._opened.enter_context(av.open(_Input(file), options={"format_whitelist": _CONTAINERS}))
        except (av.FFmpegError, OSError, ValueError) as error:
            raise NotAudioError(
                f"{self.name}: cannot be read as audio or video ({_reason(error)}); if it is incomplete, "
                "copy or record it again"
            ) from error
        stream = self._choose(container)
        self._position = 0
        self._rest: np.ndarray | None = None
        self._pieces = self._decode(container, stream)
        first = next(self._pieces, None)
        if first is None:
            raise EmptyAudioError(f"{self.name}: its audio track contains no audio; record or copy it again")
        self._rest = first
        self.num_channels = first.shape[1]
        self.subtype = _subtype(stream.codec_context)
        seconds = float(stream.duration * stream.time_base) if stream.duration else (container.duration or 0) / 1e6
        self.num_samples = max(round(seconds * self.sample_rate), len(first))
        self.tolerance = self.sample_rate + self.num_samples // 100

    def _choose(self, container: Any) -> Any:
        tracks = container.streams.audio
        if not tracks:
            others = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
            raise NotAudioError(f"{self.name}: contains no audio track, only {others}; give the file with the sound")
        if self._track > len(tracks):
            names = ", ".join(f"{number} ({_describe(stream)})" for number, stream in enumerate(tracks, start=1))
            raise NotAudioError(f"{self.name}: has no audio track {self._track}; choose --track from: {names}")
        if tracks[self._track - 1].codec_context is None:
            raise NotAudioError(
                f"{self.name}: its audio track is in a format that FFmpeg does not know; convert it to WAV or FLAC"
            )
        return tracks[self._track - 1]

    def _decode(self, container: Any, stream: Any) -> Iterator[np.ndarray]:
        """Yields pieces (t, channels) at the rate and with the channels of the first frame."""
        import av

        converter: Any = None
        form: Any = None
        given, num_incomplete, decoded = "", 0, 0
        try:
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except av.FFmpegError:
                    num_incomplete += 1
                    if decoded or num_incomplete > _MOST_INCOMPLETE:
                        raise
                    continue
                for frame in frames:
                    if form is None:
                        form = frame.layout, frame.sample_rate
                        self._check_rate(frame.sample_rate)
                    if given != (given := f"{frame.format.name} {frame.layout.name} {frame.sample_rate}"):
                        yield from _planes(converter.resample(None) if converter else [])
                        converter = av.AudioResampler("fltp", *form)
                    frame.pts = None
                    decoded += frame.samples
                    yield from _planes(converter.resample(frame))
            yield from _planes(converter.resample(None) if converter else [])
        except (av.FFmpegError, ValueError) as error:
            if isinstance(error, HeaderError):
                raise
            raise DamagedAudioError(
                f"{self.name}: is damaged or cut short: cannot be read beyond sample {decoded} ({_reason(error)}); "
                "copy it again, or convert it without the damaged part: ffmpeg -i INPUT OUTPUT.wav"
            ) from error

    def _check_rate(self, sample_rate: int) -> None:
        if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
            raise HeaderError(
                f"{self.name}: its audio track has a sample rate of {sample_rate} Hz; it must be from "
                f"{MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE:,} Hz; convert the file again"
            )
        self.sample_rate = sample_rate

    def _take(self, num_samples: int) -> np.ndarray:
        """The next samples, (t, channels)."""
        taken, missing = [np.zeros((0, self.num_channels), np.float32)], num_samples
        while missing > 0:
            piece = self._rest if self._rest is not None else next(self._pieces, None)
            if piece is None:
                break
            taken.append(piece[:missing])
            self._rest = piece[missing:] if len(piece) > missing else None
            missing -= len(taken[-1])
        self._position += num_samples - missing
        return np.concatenate(taken)


def _planes(frames: list[Any]) -> Iterator[np.ndarray]:
    for frame in frames:
        if frame is not None and frame.samples:
            yield frame.to_ndarray().T


def _subtype(codec: Any) -> str:
    name, form = codec.name, codec.format.name.removesuffix("p")
    if name.startswith("pcm_f") or (name in _LOSSLESS and form in ("flt", "dbl")):
        return "FLOAT"
    if form == "s32" and (name.startswith("pcm_s") or name in _LOSSLESS):
        return "PCM_32" if name.startswith("pcm_s32") else "PCM_24"
    return name.upper()


def _describe(stream: Any) -> str:
    words = (getattr(stream.codec_context, "name", None), stream.language, stream.metadata.get("title"))
    return ", ".join(word for word in words if word and word != "und")


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split()).rstrip(".")
