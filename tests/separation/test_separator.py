"""The separator, with a tiny random network: what it does around the network, not how well it separates."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mossformer_jax.audio.files import read_audio, resample, write_audio
from mossformer_jax.model.levels import input_gain, loudness
from mossformer_jax.separation import Separator
from mossformer_jax.separation.options import SCALES
from mossformer_jax.weights import LoadedModel, load_model, load_parameters
from tests.separation.stand_ins import KnowingModel

RATE = 8000
LENGTH = 800


@pytest.fixture(scope="module")
def model(tiny_model_folder):
    return load_model(tiny_model_folder)


@pytest.fixture
def separator(tiny_separator):
    return tiny_separator


@pytest.fixture(scope="module")
def levelled(tiny_model_folder):
    return Separator(LoadedModel(*_with(tiny_model_folder, input_level_db=-25.0)))


def _with(folder, **options):
    config, parameters = load_parameters(folder)
    return dataclasses.replace(config, **options), parameters


@pytest.fixture
def mixture(rng):
    return (0.1 * rng.standard_normal(LENGTH)).astype(np.float32)


@pytest.mark.medium
def test_at_the_models_rate_the_sources_are_the_networks(separator, model, mixture):
    separation = separator(mixture, RATE)
    assert (separation.sources.dtype, separation.sample_rate) == (np.float32, RATE)
    # The same program compiled twice; only its float32 rounding could differ.
    np.testing.assert_allclose(separation.sources, model(mixture[None])[0], rtol=0, atol=1e-6)
    assert np.abs(separation.sources).max() > 1e-4


@pytest.mark.parametrize(("rate", "length"), [(16_000, 1599), (44_100, 4411), (11_025, 1103), (7999, 800)])
def test_sources_are_exactly_as_long_as_the_waveform_at_any_rate(separator, rng, rate, length):
    sources = separator(0.1 * rng.standard_normal(length), rate).sources
    assert sources.shape == (2, length)
    assert np.isfinite(sources).all()


def test_another_rate_gives_the_same_separation(separator, mixture):
    direct = separator(resample(resample(mixture, RATE, 16_000), 16_000, RATE), RATE).sources
    upsampled = separator(resample(mixture, RATE, 16_000), 16_000).sources
    assert upsampled.shape == (2, 2 * LENGTH)
    np.testing.assert_allclose(upsampled, resample(direct, RATE, 16_000), rtol=0, atol=1e-6)  # float32 rounding


def test_channels_are_mixed_down(separator, mixture, rng):
    side = 0.1 * rng.standard_normal(LENGTH).astype(np.float32)
    stereo = separator(np.stack([mixture + side, mixture - side]), RATE).sources
    np.testing.assert_allclose(stereo, separator(mixture, RATE).sources, rtol=0, atol=1e-6)  # rounding of the mean


def test_sixteen_bit_integers_are_scaled_to_full_scale(separator, mixture):
    integers = np.rint(mixture * 32768).astype(np.int16)
    np.testing.assert_array_equal(
        separator(integers, RATE).sources, separator(integers.astype(np.float64) / 32768, RATE).sources
    )


@pytest.mark.medium
@pytest.mark.parametrize("direct_decoding", [False, True])
def test_silence_gives_silence_exactly(tiny_model_folder, direct_decoding):
    model = LoadedModel(*_with(tiny_model_folder, direct_decoding=direct_decoding, input_level_db=-25.0))
    # With direct decoding, the network alone has non-zero outputs for silence.
    assert np.asarray(model(np.zeros((1, LENGTH), np.float32))).any() == direct_decoding
    for rate in (RATE, 44_100):
        sources = Separator(model)(np.zeros((2, LENGTH)), rate).sources
        np.testing.assert_array_equal(sources, np.zeros((2, LENGTH), np.float32))


@pytest.mark.medium
def test_the_network_gets_the_level_that_it_expects(levelled, model, mixture):
    gain = input_gain(loudness(lambda: [mixture]), -25.0)
    expected = np.asarray(model((mixture * gain).astype(np.float32)[None])[0]) / gain
    np.testing.assert_allclose(levelled(mixture, RATE).sources, expected, rtol=0, atol=1e-6)


@pytest.mark.medium
def test_sources_follow_the_level_of_the_waveform_when_the_model_expects_one(levelled, separator, mixture):
    quiet, loud = (levelled(scale * mixture, RATE).sources for scale in (1e-3, 1.0))
    tolerance = 1e-5 * np.abs(loud).max()  # float32 rounding of the scaled mixture
    np.testing.assert_allclose(1e3 * quiet, loud, rtol=0, atol=tolerance)
    # The network alone is not level-invariant, so that the lines above can fail.
    raw_quiet, raw_loud = (separator(scale * mixture, RATE).sources for scale in (1e-3, 1.0))
    assert np.abs(1e3 * raw_quiet - raw_loud).max() > 10 * tolerance


@pytest.mark.medium
def test_the_shortest_waveform_is_one_kernel_and_compiling_is_timed_apart_once(separator, tiny_config):
    shortest = np.tile([0.1, -0.1], tiny_config.kernel_size // 2)
    first, second = (separator(shortest, RATE) for _ in range(2))
    assert first.sources.shape == (2, len(shortest))
    assert first.timings.compile_seconds > 0 == second.timings.compile_seconds
    assert first.timings.run_seconds > 0 < second.timings.run_seconds
    with pytest.raises(ValueError, match=r"15 samples at 8000 Hz, .* must hold at least 16"):
        separator(shortest[1:], RATE)
    with pytest.raises(ValueError, match=r"80 samples at 44100 Hz, which are 15 at the model's 8000 Hz"):
        separator(np.full(80, 0.1), 44_100)


@pytest.mark.medium
def test_batched_results_equal_those_of_separate_calls(separator, tiny_model_folder, rng):
    batching = Separator.from_pretrained(tiny_model_folder, batch_size=4)
    waveforms = [0.1 * rng.standard_normal(length) for length in (800, 1000, 799, 801, 16)]
    waveforms[3] *= 0.0
    together = batching.batch(waveforms, RATE)
    for waveform, separation in zip(waveforms, together, strict=True):
        alone = separator(waveform, RATE).sources
        assert alone.shape == separation.sources.shape == (2, len(waveform))
        np.testing.assert_allclose(separation.sources, alone, rtol=0, atol=1e-5 * max(np.abs(alone).max(), 1e-9))
    assert separator.batch([], RATE) == []


def test_an_error_in_a_batch_names_the_waveform(separator, mixture):
    with pytest.raises(ValueError, match=r"waveform 1: waveform holds NaN"):
        separator.batch([mixture, _with_nan(LENGTH - 3)], RATE)


def test_channels_that_cancel_are_a_warning(separator, mixture):
    stereo = np.stack([mixture, -mixture])
    separation = separator(stereo, RATE)
    np.testing.assert_array_equal(separation.sources, 0.0)
    assert separation.warnings == (
        "the recording's channels cancel each other when mixed down; separate each channel (--channels each)",
    )
    assert separator(stereo, RATE, channels="each").sources.any()


def test_threads_can_share_a_separator(separator, rng):
    waveforms = [0.1 * rng.standard_normal(900 + number) for number in range(8)]
    expected = [separator(waveform, RATE).sources for waveform in waveforms]
    with ThreadPoolExecutor(4) as pool:
        separations = list(pool.map(lambda waveform: separator(waveform, RATE), waveforms))
    for separation, sources in zip(separations, expected, strict=True):
        np.testing.assert_array_equal(separation.sources, sources)


def test_consistent_sources_add_up_to_the_mixture(levelled, mixture):
    loose = levelled(mixture, RATE).sources
    assert np.abs(loose.sum(axis=0) - mixture).max() > 1e-2 * np.abs(mixture).max()
    consistent = levelled(mixture, RATE, mixture_consistency=True).sources
    np.testing.assert_allclose(consistent.sum(axis=0), mixture, rtol=0, atol=1e-6)  # float32 rounding
    # The difference is distributed in proportion to power, so the louder source gets more.
    added = np.square(consistent - loose).sum(axis=1)
    power = np.square(loose).sum(axis=1)
    np.testing.assert_allclose(np.sqrt(added[0] / added[1]), power[0] / power[1], rtol=1e-3)


@pytest.mark.parametrize("offset", [0.05, 0.5])
def test_a_constant_offset_does_not_change_the_sources(levelled, mixture, offset):
    mixture = mixture - mixture.mean()
    expected = levelled(mixture, RATE).sources
    sources = levelled(mixture + np.float32(offset), RATE).sources
    # With the offset, float32 has a few bits less for the mixture.
    np.testing.assert_allclose(sources, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_a_constant_recording_is_silent_and_reported(separator):
    separation = separator(np.full(LENGTH, 0.25), RATE)
    assert not separation.sources.any()
    assert separation.warnings == ("the recording is silent except for a constant offset",)


def test_the_scale_of_the_sources_can_be_chosen(levelled, mixture):
    by_scale = {scale: levelled(mixture, RATE, scale=scale).sources for scale in SCALES}
    gain = input_gain(loudness(lambda: [mixture]), -25.0)
    np.testing.assert_allclose(by_scale["none"], by_scale["mixture"] * gain, rtol=1e-5)
    assert np.abs(by_scale["peak"]).max() == pytest.approx(0.99, rel=1e-5)
    ratio = by_scale["peak"] / by_scale["mixture"]
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-4)
    rms = np.sqrt(np.square(by_scale["rms"]).mean(axis=1))
    np.testing.assert_allclose(rms, np.sqrt(np.square(mixture).mean()), rtol=1e-4)
    rms = np.sqrt(np.square(by_scale["clearvoice"]).mean(axis=1))
    np.testing.assert_allclose(rms, np.sqrt(np.square(mixture * gain).mean()), rtol=1e-4)
    np.testing.assert_allclose(np.abs(by_scale["modelscope"]).max(axis=1), 0.5, rtol=1e-5)


def test_channels_that_are_separated_each_keep_the_speakers_in_place(tiny_config, rng):
    """The outputs of the second channel are in the opposite order; both talkers are later and at other levels in it."""
    first, second = rng.standard_normal((2, 6)).repeat(RATE // 10, axis=1) * rng.standard_normal((2, 6 * RATE // 10))
    left = np.stack([first, second])
    right = np.roll(left, 5, axis=1) * np.array([[0.5], [0.8]])

    class Model(KnowingModel):
        def _separate(self, mixture_bt, lengths_b):
            is_left = np.allclose(mixture_bt[0, : left.shape[1]], left.sum(axis=0), atol=1e-5)
            outputs = np.zeros((1, 2, mixture_bt.shape[1]))
            outputs[0, :, : left.shape[1]] = left if is_left else right[::-1]
            return outputs

    separator = Separator(Model(tiny_config, np.zeros(1), left))
    separation = separator(np.stack([left.sum(axis=0), right.sum(axis=0)]), RATE, channels="each")
    expected = np.stack([left, right], axis=1)
    np.testing.assert_allclose(separation.sources, expected, rtol=0, atol=1e-5)
    # A silent channel does not affect the speaker assignment, and stays silent whatever the network outputs.
    off = np.zeros(left.shape[1])
    separation = separator(np.stack([off, left.sum(axis=0), right.sum(axis=0)]), RATE, channels="each")
    np.testing.assert_allclose(separation.sources[:, 1:], expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(separation.sources[:, 0], 0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"scale": "loud"},
            "scale='loud' is not allowed: must be one of mixture, peak, rms, clearvoice, modelscope, none",
        ),
        ({"channels": "left"}, "channels='left' is not allowed: must be one of mix, each"),
    ],
)
def test_an_unknown_option_is_named(separator, mixture, options, message):
    with pytest.raises(ValueError, match=message):
        separator(mixture, RATE, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory": 0}, "memory=0 is not allowed"),
        ({"window_seconds": 0.1}, "window_seconds=0.1 is not allowed: must be 0.5 or more"),
        ({"window_seconds": 1e308}, r"window_seconds=1e\+308 is not allowed: must be at most 86,400"),
        ({"batch_size": 0}, "batch_size=0 is not allowed"),
        ({"ladder_growth": 1.0}, "growth=1.0 is not allowed: must be above 1"),
    ],
)
def test_an_impossible_separator_is_named(model, options, message):
    with pytest.raises(ValueError, match=message):
        Separator(model, **options)


def _with_nan(position):
    waveform = np.zeros(LENGTH)
    waveform[position:] = [np.nan, np.inf, -np.inf]
    return waveform


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (_with_nan(LENGTH - 3), "NaN or infinity in 3 of 800 samples, first at sample 797"),
        (np.full(LENGTH, 1e300), "NaN or infinity in 800 of 800 samples"),  # beyond float32
        (np.full(LENGTH, -32768.0), r"peak of 3.277e\+04, but must be within about \+-1"),
        (np.zeros((1, 2, LENGTH)), r"shape \(1, 2, 800\), but must be \(t,\) or \(channels, t\)"),
        (np.zeros(()), r"shape \(\)"),
        (np.zeros(0), r"shape \(0,\).* not empty"),
        (np.zeros((2, 0)), r"shape \(2, 0\)"),
        (np.zeros((LENGTH, 2)), r"shape \(800, 2\), but must be \(channels, t\): transpose it"),
        (np.zeros(LENGTH, np.int32), "dtype int32, but must be floating point .* or int16"),
        (np.zeros(LENGTH, np.uint8), "dtype uint8"),
        (np.zeros(LENGTH, bool), "dtype bool"),
        (np.zeros(LENGTH, complex), "dtype complex128"),
        (["a", "b"], r"dtype <U1"),
    ],
)
@pytest.mark.own_checks
def test_a_waveform_that_cannot_be_separated_is_named(separator, waveform, message):
    with pytest.raises(ValueError, match=message) as raised:
        separator(waveform, RATE)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("rate", [0, -1, 8000.0, True])
@pytest.mark.own_checks
def test_an_impossible_rate_is_named(separator, mixture, rate):
    with pytest.raises(ValueError, match=r"sample rate .* is not allowed"):
        separator(mixture, rate)


WAYS = {
    "str": str,
    "Path": lambda path: path,
    "bytes": lambda path: path.read_bytes(),
    "BytesIO": lambda path: io.BytesIO(path.read_bytes()),
    "open file": lambda path: path.open("rb"),
}


@pytest.mark.parametrize("way", WAYS)
def test_files_are_accepted_in_place_of_waveforms(separator, mixture, tmp_path, way):
    write_audio(tmp_path / "a.wav", mixture, RATE, "FLOAT")
    given = WAYS[way](tmp_path / "a.wav")
    with given if isinstance(given, io.BufferedReader) else contextlib.nullcontext():
        separation = separator(given)
        assert separation.sample_rate == RATE
        np.testing.assert_array_equal(separation.sources, separator(mixture, RATE).sources)
        waveform, sample_rate = read_audio(given)
        assert sample_rate == RATE
        np.testing.assert_array_equal(waveform[0], mixture.astype(np.float32))
        with pytest.raises(ValueError, match="the file has a sample rate of 8000 Hz, not 16000"):
            separator(given, 16000)


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (np.zeros(LENGTH), r"sample_rate is missing; .*: separator\(waveform, 16000\)"),
        ((np.zeros(LENGTH), RATE), r"separator\(\*mossformer_jax.audio.read_audio\(path\)\), or separator\(path\)"),
        (b"no audio", "the given BytesIO: cannot be read as audio"),
        ("missing.wav", "missing.wav: no such file"),
    ],
)
@pytest.mark.own_checks
def test_the_error_for_a_missing_sample_rate_gives_a_working_call(separator, waveform, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        separator(waveform)


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        ("a.wav", r"is a file, not an array; read it first: .*read_audio\(path\)"),
        (np.zeros(LENGTH, np.int32), r"dtype int32, .* or int16; give waveform / 2\*\*31"),
        (np.full(LENGTH, 128, np.uint8), r"dtype uint8, .*; give waveform / 128.0 - 1"),
    ],
)
@pytest.mark.own_checks
def test_other_arrays_are_answered_with_the_line_that_converts_them(separator, waveform, message):
    with pytest.raises(ValueError, match=message):
        separator.batch([waveform], RATE)
