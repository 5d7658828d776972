"""Reading, resampling and writing in blocks."""

from __future__ import annotations

import os
import struct

import numpy as np
import pytest
import soundfile

from mossformer_jax.audio import streams
from mossformer_jax.audio.files import read_audio, resample
from mossformer_jax.audio.streams import AudioReader, AudioWriter, resample_blocks


@pytest.fixture
def stereo(rng):
    return rng.uniform(-0.9, 0.9, (2, 5000)).astype(np.float32)


def _cut(waveform, block_samples):
    return [waveform[:, start : start + block_samples] for start in range(0, waveform.shape[1], block_samples)]


def _write(path, blocks, **options):
    with AudioWriter(path, 8000, **options) as writer:
        for block in blocks:
            writer.write(block)


# MP3 and Ogg are only read: reading in blocks is compared with reading the whole file.
@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
@pytest.mark.parametrize("block_samples", [333, 4096, 10_000])
def test_concatenated_blocks_equal_the_whole_file(tmp_path, stereo, name, block_samples):
    soundfile.write(tmp_path / name, stereo.T, 8000)
    with AudioReader(tmp_path / name) as reader:
        assert (reader.sample_rate, reader.num_channels, reader.num_samples) == (8000, 2, 5000)
        blocks = list(reader.blocks(block_samples))
        again = next(reader.blocks(block_samples))
        assert reader.warning is None
    assert {block.shape[1] for block in blocks[:-1]} <= {block_samples}
    whole = soundfile.read(tmp_path / name, dtype="float32")[0].T
    # The MP3 decoder seeks back by a frame for each block, which changes the rounding; values are up to 2 here.
    np.testing.assert_allclose(np.concatenate(blocks, axis=1), whole, rtol=0, atol=5e-7)
    np.testing.assert_allclose(again, blocks[0], rtol=0, atol=5e-7)


@pytest.mark.parametrize("suffix", ["wav", "aiff", "w64", "rf64"])
def test_a_file_cut_short_is_read_with_a_warning(tmp_path, stereo, suffix):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, stereo.T, 8000, subtype="PCM_16")
    path.write_bytes(path.read_bytes()[:12_000])
    with AudioReader(path) as reader:
        assert "seems to be cut short: its header declares 20" in reader.warning  # a little more than 20,000 bytes
        assert str(path) in reader.warning
        num_samples = sum(block.shape[1] for block in reader.blocks(1000))
    assert num_samples == reader.num_samples
    assert 2900 < num_samples < 3000


def test_an_mp3_cut_short_gives_a_warning_after_reading(tmp_path, rng):
    path = tmp_path / "a.mp3"
    soundfile.write(path, rng.uniform(-0.5, 0.5, 20_000), 8000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with AudioReader(path) as reader:
        num_samples = sum(block.shape[1] for block in reader.blocks(4096))
    assert num_samples < reader.num_samples == 20_000
    assert f"its header declares 20000 samples, but only {num_samples} can be read" in reader.warning


@pytest.mark.parametrize("declared", [0x7FFFF000, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_wav_from_a_pipe_is_read_completely_without_warning(tmp_path, stereo, declared):
    path = tmp_path / "a.wav"
    soundfile.write(path, stereo.T, 8000, subtype="PCM_16")
    data = bytearray(path.read_bytes())
    data[40:44] = struct.pack("<I", declared)
    path.write_bytes(data)
    with AudioReader(path) as reader:
        assert (reader.num_samples, reader.warning) == (5000, None)


def _flac(path, rng):
    soundfile.write(path, rng.uniform(-0.5, 0.5, 40_000), 8000)
    return bytearray(path.read_bytes())


def test_the_error_gives_the_position_of_damage(tmp_path, rng):
    path = tmp_path / "a.flac"
    data = _flac(path, rng)
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    path.write_bytes(data)
    with (
        AudioReader(path) as reader,
        pytest.raises(ValueError, match=r"a\.flac: is damaged .* beyond sample 1\d{4} of 40000 \(.+\)"),
    ):
        list(reader.blocks(1000))


def test_a_flac_without_a_length_is_an_error(tmp_path, rng):
    path = tmp_path / "a.flac"
    data = _flac(path, rng)
    data[22:26] = bytes(4)  # the low 32 of the 36 bits of the number of samples
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.flac: its header does not contain the length"):
        AudioReader(path)


def test_the_first_broken_sample_is_counted_from_the_start_of_the_file(tmp_path, stereo):
    stereo[1, 3210] = np.inf
    soundfile.write(tmp_path / "a.wav", stereo.T, 8000, subtype="FLOAT")
    with AudioReader(tmp_path / "a.wav") as reader, pytest.raises(ValueError, match="first at sample 3210;"):
        list(reader.blocks(1000))


def test_a_raw_file_is_an_error(tmp_path):
    (tmp_path / "a.raw").write_bytes(bytes(100))
    with pytest.raises(ValueError, match=r"a\.raw: cannot be read as audio"):
        AudioReader(tmp_path / "a.raw")


def test_opening_a_file_without_samples_is_an_error(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 8000)
    with pytest.raises(ValueError, match=r"a\.wav: contains no audio \(0 samples at 8000 Hz\)"):
        AudioReader(tmp_path / "a.wav")


def test_the_error_names_a_file_without_read_permission(tmp_path, stereo, monkeypatch):
    soundfile.write(tmp_path / "a.wav", stereo.T, 8000)
    monkeypatch.setattr(os, "access", lambda *_: False)  # the root user can read files of any mode
    with pytest.raises(PermissionError, match=r"a\.wav: no permission to read the file"):
        AudioReader(tmp_path / "a.wav")


@pytest.mark.parametrize(("name", "subtype"), [("a.wav", "PCM_16"), ("a.flac", "PCM_24"), ("a.wav", "FLOAT")])
def test_writing_in_blocks_gives_the_same_file(tmp_path, stereo, name, subtype):
    _write(tmp_path / name, _cut(stereo, 777), subtype=subtype, num_channels=2)
    _write(tmp_path / f"whole_{name}", [stereo], subtype=subtype, num_channels=2)
    np.testing.assert_array_equal(read_audio(tmp_path / name)[0], read_audio(tmp_path / f"whole_{name}")[0])
    assert soundfile.info(tmp_path / name).subtype == subtype
    assert {path.name for path in tmp_path.iterdir()} == {name, f"whole_{name}"}


def test_the_file_appears_only_when_it_is_complete(tmp_path, stereo):
    with AudioWriter(tmp_path / "a.wav", 8000, num_channels=2) as writer:
        writer.write(stereo)
        assert [path.name for path in tmp_path.iterdir()] == [f".a.wav.{os.getpid()}.part"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_keeps_only_the_old_file(tmp_path, stereo, error):
    def broken_off():
        yield stereo
        raise error

    (tmp_path / "a.wav").write_bytes(b"older")
    with pytest.raises(error):
        _write(tmp_path / "a.wav", broken_off(), num_channels=2)
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
    assert (tmp_path / "a.wav").read_bytes() == b"older"


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (np.full((2, 9), 1.01), "PCM_16 would clip a peak of 1.01"),
        (np.full((2, 9), np.nan), "contains NaN or infinity"),
        (np.zeros((3, 9)), r"a block has shape \(3, 9\); must be \(channels, t\) with 2 channel"),
        (np.zeros(9), r"a block has shape \(9,\)"),
    ],
)
@pytest.mark.own_checks
def test_lossy_blocks_are_errors(tmp_path, stereo, block, message):
    with pytest.raises(ValueError, match=message):
        _write(tmp_path / "a.wav", [stereo, block], num_channels=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="limits on file sizes are POSIX")
@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_a_full_disk_gives_a_one_line_error_and_leaves_no_file(tmp_path, rng, name):
    import resource
    import signal

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(ValueError, match=rf"{name}: cannot be written \(.+\); check .* free space"):
            _write(tmp_path / name, rng.uniform(-1, 1, (10, 1, 50_000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def test_a_wav_above_4_gib_is_rf64_if_the_length_is_known_and_an_error_otherwise(tmp_path, stereo, monkeypatch):
    monkeypatch.setattr(streams, "MAX_WAV_BYTES", stereo.size * 2 - 1)  # instead of 4 GiB
    _write(tmp_path / "a.wav", [stereo], num_channels=2, num_samples=stereo.shape[1])
    assert (tmp_path / "a.wav").read_bytes()[:4] == b"RF64"
    assert read_audio(tmp_path / "a.wav")[0].shape == stereo.shape
    with pytest.raises(ValueError, match="would exceed the 4 GiB limit of a WAV file"):
        _write(tmp_path / "b.wav", _cut(stereo, 777), num_channels=2)
    assert not (tmp_path / "b.wav").exists()


@pytest.mark.parametrize(
    "rates", [(8000, 16_000), (16_000, 8000), (44_100, 8000), (8000, 44_100), (48_000, 16_000), (11_025, 8000)]
)
@pytest.mark.parametrize("block_samples", [7, 1000, 30_000])  # soxr's filter has a few hundred samples
def test_resampling_in_blocks_equals_resampling_the_whole(rng, rates, block_samples):
    waveform = rng.standard_normal((2, 12_345)).astype(np.float32)
    resampled = np.concatenate(list(resample_blocks(_cut(waveform, block_samples), *rates)), axis=1)
    expected = resample(waveform, *rates)
    assert (resampled.shape, resampled.dtype) == (expected.shape, np.float32)
    # Both run the same filter in the same order; 1e-6 is a margin for other builds of soxr.
    assert np.linalg.norm(resampled - expected) <= 1e-6 * np.linalg.norm(expected)


@pytest.mark.parametrize("num_samples", [0, 1, 2, 7, 801])
@pytest.mark.parametrize("rates", [(8000, 44_100), (44_100, 8000), (8000, 8000)])
def test_resampled_blocks_have_the_rounded_length(rates, num_samples):
    blocks = list(resample_blocks(_cut(np.ones((1, num_samples)), 5), *rates))
    assert sum(block.shape[1] for block in blocks) == int(num_samples * rates[1] / rates[0] + 0.5)
    assert list(resample_blocks([np.ones((1, 0))], *rates)) == [] or rates[0] == rates[1]


def test_resampling_a_block_to_a_much_higher_rate_gives_blocks_of_bounded_size(rng):
    waveform = rng.standard_normal((1, 3000)).astype(np.float32)
    blocks = list(resample_blocks([waveform], 10, 8000))
    assert max(block.shape[1] for block in blocks) < 2**21
    np.testing.assert_allclose(np.concatenate(blocks, axis=1), resample(waveform, 10, 8000), rtol=0, atol=1e-5)


def test_an_enormous_rate_is_an_error():
    with pytest.raises(ValueError, match=r"sample rate 1e\+30 is not allowed: must be at most 1,000,000,000 Hz"):
        resample(np.zeros(9), 8000, 10**30)


def test_resampling_blocks_at_an_invalid_rate_is_an_error():
    with pytest.raises(ValueError, match="sample rate 0 is not allowed"):
        list(resample_blocks([], 8000, 0))
