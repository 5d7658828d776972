"""Reading, resampling and writing audio."""

from __future__ import annotations

import os
import stat

import numpy as np
import pytest
import soundfile

from mossformer_jax.audio.files import fit_length, read_audio, resample, to_mono, write_audio


@pytest.fixture
def stereo(rng):
    return rng.uniform(-0.9, 0.9, (2, 800)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "subtype", "bits"), [("a.wav", "PCM_16", 16), ("a.flac", "PCM_24", 24), ("a.wav", "PCM_24", 24)]
)
def test_a_written_file_is_read_back_within_half_a_quantisation_step(tmp_path, stereo, name, subtype, bits):
    write_audio(tmp_path / name, stereo, 8000, subtype)
    waveform, sample_rate = read_audio(tmp_path / name)
    assert (sample_rate, waveform.dtype, waveform.shape) == (8000, np.float32, stereo.shape)
    error = np.abs(waveform - stereo).max()
    assert error <= 0.5 / 2 ** (bits - 1) + 6e-8  # plus the rounding of float32 near 1


def test_sixteen_bit_rounding_has_no_bias(tmp_path, rng):
    waveform = rng.uniform(-0.5, 0.5, 20_000).astype(np.float32)
    write_audio(tmp_path / "a.wav", waveform, 8000)
    steps = (read_audio(tmp_path / "a.wav")[0][0] - waveform) * 2**15
    # Rounding down would give -0.5; rounding to nearest gives 0 with a standard error of sqrt(1/12/20000) = 0.002.
    assert abs(steps.mean()) < 0.01


def test_float_stores_levels_above_full_scale_exactly(tmp_path, stereo):
    write_audio(tmp_path / "a.wav", 3 * stereo, 44_100, "FLOAT")
    waveform, sample_rate = read_audio(tmp_path / "a.wav")
    assert sample_rate == 44_100
    np.testing.assert_array_equal(waveform, 3 * stereo)


def test_full_scale_does_not_wrap_around(tmp_path):
    write_audio(tmp_path / "a.wav", np.array([1.0, -1.0, 0.0]), 8000)
    np.testing.assert_array_equal(soundfile.read(tmp_path / "a.wav", dtype="int16")[0], [32767, -32768, 0])


def test_mono_is_the_mean_of_the_channels(stereo):
    np.testing.assert_allclose(to_mono(stereo), (stereo[0] + stereo[1]) / 2, rtol=1e-6)


@pytest.mark.parametrize(
    "rates", [(8000, 16_000), (44_100, 8000), (8000, 44_100), (48_000, 8000), (11_025, 8000), (16_000, 8000)]
)
@pytest.mark.parametrize("length", [1, 2, 7, 801, 12_345])
def test_the_resampled_length_is_the_rounded_ratio(rng, rates, length):
    from_rate, to_rate = rates
    resampled = resample(rng.standard_normal((2, length)).astype(np.float32), from_rate, to_rate)
    assert resampled.shape == (2, int(length * to_rate / from_rate + 0.5))
    assert resampled.dtype == np.float32


@pytest.mark.parametrize("rates", [(8000, 16_000), (16_000, 8000), (44_100, 8000)])
def test_resampling_does_not_delay_a_tone(rates):
    from_rate, to_rate = rates
    tone = [np.sin(2 * np.pi * 440 * np.arange(rate) / rate) for rate in rates]
    inner = slice(to_rate // 10, -to_rate // 10)  # away from the ends, where the tone is truncated
    # One sample of delay at 16 kHz would give 0.17; the error of soxr's very high quality is below 1e-5.
    np.testing.assert_allclose(resample(tone[0], from_rate, to_rate)[inner], tone[1][inner], atol=1e-5)


def test_resampling_to_the_same_rate_changes_nothing(stereo):
    np.testing.assert_array_equal(resample(stereo, 8000, 8000), stereo)


@pytest.mark.parametrize("rate", [0, -8000, 8000.0, True, None])
@pytest.mark.own_checks
def test_an_invalid_rate_is_an_error(stereo, rate):
    with pytest.raises(ValueError, match=r"sample rate .* is not allowed: must be a positive whole number"):
        resample(stereo, rate, 8000)


def test_fit_length_cuts_and_pads_at_the_end():
    np.testing.assert_array_equal(fit_length(np.arange(3.0), 2), [0, 1])
    np.testing.assert_array_equal(fit_length(np.arange(3.0), 5), [0, 1, 2, 0, 0])


def _bad_files(folder):
    (folder / "folder").mkdir()
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("not audio at all" * 9)
    soundfile.write(folder / "no_samples.wav", np.zeros(0), 8000)
    soundfile.write(folder / "nan.wav", np.array([0.0, 0.1, np.nan, np.inf], np.float32), 8000, subtype="FLOAT")
    soundfile.write(folder / "cut.flac", np.random.default_rng(0).uniform(-1, 1, 40_000), 8000)
    whole = (folder / "cut.flac").read_bytes()
    (folder / "cut.flac").write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.wav", "no such file"),
        ("folder", "is a folder"),
        ("empty.wav", r"is empty \(0 bytes\)"),
        ("text.wav", r"cannot be read as audio \(it is a text file\); give the recording itself"),
        ("no_samples.wav", "contains no audio"),
        ("nan.wav", "contains NaN or infinity, first at sample 2;"),
        ("cut.flac", r"damaged or cut short: cannot be read beyond sample \d+ of 40000 \(.+\)"),
    ],
)
def test_errors_for_unusable_files_are_one_line_with_the_path(tmp_path, name, message):
    _bad_files(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as raised:
        read_audio(tmp_path / name)
    assert str(tmp_path / name) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "scale", "subtype", "message"),
    [
        ("a.wav", 2.0, "PCM_16", "would clip a peak of"),
        ("a.wav", np.nan, "FLOAT", "contains NaN"),
        ("a.xyz", 1.0, "PCM_16", "does not support PCM_16"),
        ("a.flac", 1.0, "FLOAT", "does not support FLOAT"),
        ("a.wav", 1.0, "PCM_12", "subtype='PCM_12' is not allowed"),
        ("no/folder/a.wav", 1.0, "PCM_16", "there is no folder"),
    ],
)
def test_lossy_writes_are_errors_and_leave_no_file(tmp_path, stereo, name, scale, subtype, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        write_audio(tmp_path / name, scale * stereo, 8000, subtype)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_old_file(tmp_path, stereo, monkeypatch):
    write_audio(tmp_path / "a.wav", stereo, 8000)
    before = (tmp_path / "a.wav").read_bytes()

    def break_off(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(soundfile.SoundFile, "write", break_off)
    with pytest.raises(KeyboardInterrupt):
        write_audio(tmp_path / "a.wav", stereo / 2, 8000)
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
    assert (tmp_path / "a.wav").read_bytes() == before


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_a_written_file_has_the_default_permissions(tmp_path, stereo):
    write_audio(tmp_path / "a.wav", stereo, 8000)
    (tmp_path / "other").touch()
    assert stat.S_IMODE((tmp_path / "a.wav").stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)
