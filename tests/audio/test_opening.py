"""Headers that contradict their file, files without seeking, and files that are not audio."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import soundfile

from mossformer_jax.audio import AudioReader, read_audio
from mossformer_jax.audio.opening import AudioFile
from mossformer_jax.data.layouts import open_mixtures
from mossformer_jax.data.utterances import Utterances

RATE, LENGTH = 8000, 3000
CONTAINERS = ("WAV", "RIFX", "WAVEX", "RF64", "W64", "AIFF", "AIFC", "AU", "CAF")


def _written(container, waveform, subtype="PCM_16"):
    kind, order = {"RIFX": ("WAV", "BIG"), "AIFC": ("AIFF", "LITTLE")}.get(container, (container, "FILE"))
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, RATE, format=kind, subtype=subtype, endian=order)
    return bytearray(buffer.getvalue())


def _declare(data, container, size):
    """Changes the size of the audio that a header declares."""
    if container == "RF64":
        data[28:36] = struct.pack("<Q", size)
    elif container == "W64":
        place = data.index(b"data\xf3") + 16
        data[place : place + 8] = struct.pack("<Q", size + 24)
    elif container in ("AIFF", "AIFC"):
        place = data.index(b"SSND") + 4
        data[place : place + 4] = struct.pack(">I", size + 8 if size else 0)
    elif container == "AU":
        data[8:12] = struct.pack(">I", size)
    elif container == "CAF":
        place = data.index(b"data") + 4
        data[place : place + 8] = struct.pack(">q", size + 4 if size else 0)
    else:
        place = data.index(b"data") + 4
        data[place : place + 4] = struct.pack(">I" if container == "RIFX" else "<I", size)
    return data


def _chunk(container):
    if container == "W64":
        return b"note" + bytes.fromhex("f3acd3118cd100c04f8edb8a") + struct.pack("<Q", 40) + b"0123456789abcdef"
    return (
        b"note"
        + struct.pack({"CAF": ">q", "AIFF": ">I", "AIFC": ">I", "RIFX": ">I"}.get(container, "<I"), 6)
        + b"abcdef"
    )


@pytest.fixture
def waveform(rng):
    return rng.uniform(-0.9, 0.9, LENGTH).astype(np.float32)


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_header_without_a_size_gives_the_whole_recording_and_a_warning(tmp_path, waveform, container):
    data = _written(container, waveform)
    expected = soundfile.read(io.BytesIO(data), dtype="float32")[0]
    path = tmp_path / "a"
    path.write_bytes(_declare(data, container, 0))
    with AudioReader(path) as reader:
        assert "declares 0 bytes of audio, but 6,000 are there (0.38 s); all of them are used" in reader.warning
        assert reader.num_samples == LENGTH
        for _ in range(2):
            np.testing.assert_array_equal(np.concatenate(list(reader.blocks(777)), axis=1)[0], expected)
    with AudioFile(path) as file:
        np.testing.assert_array_equal(file.read(2990, 100)[:, 0], expected[2990:])
        np.testing.assert_array_equal(file.read(10, 20)[:, 0], expected[10:30])


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_header_that_declares_less_than_the_file_holds_is_an_error_with_both_numbers(tmp_path, waveform, container):
    path = tmp_path / "a"
    path.write_bytes(_declare(_written(container, waveform), container, 2000))
    with pytest.raises(
        ValueError, match=r"a: its header declares 2,000 bytes of audio, but 6,000 follow \(0.12 s of 0.38 s\)"
    ):
        AudioReader(path)


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_chunk_after_the_audio_is_neither_read_nor_reported(tmp_path, waveform, container):
    if container == "AU":
        pytest.skip("AU has no chunks")
    data = _written(container, waveform)
    (tmp_path / "a").write_bytes(data + _chunk(container))
    with AudioReader(tmp_path / "a") as reader:
        assert (reader.num_samples, reader.warning) == (LENGTH, None)
        assert sum(block.shape[1] for block in reader.blocks(1000)) == LENGTH


@pytest.mark.parametrize("tail", [b"TAG" + bytes(125), bytes(400), b"\0"])
def test_a_tag_and_padding_after_the_audio_are_silent(tmp_path, waveform, tail):
    (tmp_path / "a.wav").write_bytes(_written("WAV", waveform) + tail)
    with AudioReader(tmp_path / "a.wav") as reader:
        assert (reader.num_samples, reader.warning) == (LENGTH, None)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"])
def test_every_encoding_behind_an_empty_header_is_read(tmp_path, rng, subtype):
    data = _written("WAV", rng.uniform(-0.9, 0.9, (LENGTH, 3)), subtype)
    expected = soundfile.read(io.BytesIO(data), dtype="float32")[0].T
    (tmp_path / "a.wav").write_bytes(_declare(data, "WAV", 0))
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav")[0], expected)


def test_a_wav_above_4_gib_is_read_beyond_its_wrapped_size(tmp_path):
    """A sparse file: silence of 4 GiB, then one second of signal and a chunk."""
    signal = (1000 + np.arange(RATE)).astype("<i2").tobytes()
    data = _written("WAV", np.zeros(1))
    total = 2**32 + len(signal)
    data[40:44] = struct.pack("<I", total % 2**32)
    path = tmp_path / "a.wav"
    with path.open("wb") as file:
        file.write(data[:44])
        file.seek(44 + 2**32)
        file.write(signal + _chunk("WAV"))
    with AudioFile(path) as audio:
        assert audio.num_samples == total // 2
        assert "declares 16,000 bytes of audio, but 4,294,983,296 are there" in audio.warning
        frames = audio.read(2**31 - 1, 3)[:, 0]
    np.testing.assert_array_equal(frames * 2**15, [0, 1000, 1001])


@pytest.mark.parametrize(
    ("container", "subtype"),
    [
        ("WAV", "GSM610"),
        ("WAV", "G721_32"),
        ("AIFF", "GSM610"),
        ("W64", "GSM610"),
        ("AU", "G723_24"),
        ("AU", "G721_32"),
    ],
)
def test_files_that_cannot_seek_are_read_from_any_position(tmp_path, waveform, container, subtype):
    path = tmp_path / "s" / "a.wav"
    path.parent.mkdir()
    path.write_bytes(_written(container, waveform, subtype))
    expected = soundfile.read(path, dtype="float32")[0]
    assert not soundfile.SoundFile(path).seekable()
    with AudioReader(path) as reader:
        for _ in range(2):
            np.testing.assert_array_equal(np.concatenate(list(reader.blocks(500)), axis=1)[0], expected)
    with AudioFile(path) as file:
        for start in (2000, 100, 900):
            np.testing.assert_array_equal(file.read(start, 300)[:, 0], expected[start : start + 300])
    speech = Utterances.from_folder(tmp_path, sample_rate=RATE)
    np.testing.assert_array_equal(speech.read(0, 1000, 200), expected[1000:1200])
    (tmp_path / "m.csv").write_text("source_1,source_2\ns/a.wav,s/a.wav\n")
    mixtures = open_mixtures("csv", path=tmp_path / "m.csv")
    np.testing.assert_array_equal(mixtures.read(0, 500, 100).sources[1], expected[500:600])


def test_training_and_evaluation_use_the_same_check(tmp_path, waveform):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "a.wav").write_bytes(_declare(_written("WAV", waveform), "WAV", 2000))
    (tmp_path / "m.csv").write_text("source_1,source_2\ns/a.wav,s/a.wav\n")
    for read in (
        lambda: open_mixtures("csv", path=tmp_path / "m.csv").read(0),
        lambda: Utterances.from_folder(tmp_path, sample_rate=RATE).read(0),
        lambda: Utterances.from_folder(tmp_path, sample_rate=RATE).num_samples(0),
    ):
        with pytest.raises(ValueError, match="declares 2,000 bytes of audio, but 6,000 follow"):
            read()


@pytest.mark.parametrize("rate", [1, 99, 2_000_000, 2**31 - 1])
def test_an_absurd_sample_rate_is_an_error(tmp_path, waveform, rate):
    data = _written("WAV", waveform)
    data[24:28] = struct.pack("<I", rate)
    (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(
        ValueError, match=rf"a\.wav: its header declares a sample rate of {rate} Hz; it must be from 100"
    ):
        AudioReader(tmp_path / "a.wav")


def _zip():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.wav", bytes(100))
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", ["mp3", "wav", "flac"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html>\n<html><body>" + b"<p>404</p>" * 300, r"it is a web page \(HTML\)"),
        (b'{"error": "not found", "text": "' + b"x" * 2000 + b'"}', "it is a JSON document"),
        (b"[]", "it is a JSON document"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "it is an XML document"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614\nsize 12345\n",
            r"it is a Git LFS pointer to 12,345 bytes\); run: git lfs pull",
        ),
        (_zip(), "it is a zip archive"),
        (bytes(3000), "zero bytes"),
        (b"just some words\n" * 99, "it is a text file"),
        (b"\0\0\0\x18ftypM4A \0\0\0\0" + bytes(range(200)), r"it is MP4 audio or video \(AAC\)\); run: pip"),
        (b"#!AMR\n" + bytes(range(200)), "it is AMR speech"),
        (b"", "is empty"),
    ],
)
def test_the_error_identifies_a_file_that_is_not_audio(tmp_path, monkeypatch, capfd, suffix, content, message):
    monkeypatch.setitem(sys.modules, "av", None)  # which reads some of these formats
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.{suffix}: .*{message}") as raised:
        AudioReader(path)
    assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match=message):
        AudioFile(content)
    assert capfd.readouterr() == ("", "")


@pytest.mark.medium
@pytest.mark.skipif(sys.platform != "linux", reason="the C library's stderr is found on Linux")
def test_damaged_mp3_files_print_nothing(tmp_path, rng):
    soundfile.write(tmp_path / "a.mp3", rng.uniform(-0.5, 0.5, 40_000), RATE)
    data = (tmp_path / "a.mp3").read_bytes()
    for number in range(5):
        damaged = bytearray(data)
        for place in np.random.default_rng(number).integers(len(data), size=60):
            damaged[place] ^= 0x5A
        (tmp_path / f"{number}.mp3").write_bytes(damaged)
    read = "import sys, soundfile\nfrom mossformer_jax.audio import read_audio\n"
    ours = "for path in sys.argv[1:]:\n try: read_audio(path)\n except ValueError: pass\n"
    theirs = "for path in sys.argv[1:]:\n try: soundfile.read(path)\n except RuntimeError: pass\n"
    paths = [str(path) for path in tmp_path.glob("?.mp3")]
    printed = [
        subprocess.run(
            [sys.executable, "-c", read + loop, *paths], capture_output=True, check=True, env=os.environ
        ).stderr
        for loop in (ours, theirs)
    ]
    assert printed[0] == b""
    assert printed[1] != b""  # otherwise the files are not damaged enough
