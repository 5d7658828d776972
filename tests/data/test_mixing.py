"""Dynamic mixing and speed perturbation."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from mossformer_jax.data import mixing
from mossformer_jax.data.crops import CroppedMixtures, perturb_speed
from mossformer_jax.data.demo import SPLITS, DemoMixtures, DemoUtterances
from mossformer_jax.data.drawn import DrawnMixtures
from mossformer_jax.data.mixing import DynamicMixing, level_db
from mossformer_jax.data.records import Mixture
from mossformer_jax.data.training_mixtures import open_training_mixtures

RATE = 8000


class Clips:
    """Speech in memory, a list of (speaker, waveform)."""

    def __init__(self, *clips: tuple[str, np.ndarray]):
        self.sample_rate = RATE
        self.speaker_names = tuple(sorted({speaker for speaker, _ in clips}))
        self.speakers = np.array([self.speaker_names.index(speaker) for speaker, _ in clips])
        self.waveforms = [np.asarray(waveform, np.float32) for _, waveform in clips]

    def __len__(self):
        return len(self.waveforms)

    def name(self, index):
        return f"clip{index}"

    def num_samples(self, index):
        return len(self.waveforms[index])

    def read(self, index, start=0, num_samples=None):
        return self.waveforms[index][start : None if num_samples is None else start + num_samples].copy()


def tone(hertz: float, num_samples: int) -> np.ndarray:
    return 0.1 * np.sin(2 * np.pi * hertz * np.arange(num_samples) / RATE)


def pitch(waveform: np.ndarray) -> float:
    """Frequency of a tone in Hz, from the peak of its spectrum."""
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)), 2**16))
    return float(np.argmax(spectrum)) * RATE / 2**16


@pytest.fixture
def voices(rng) -> Clips:
    """Noise, so that crops are never silent and never peak."""
    counts = {"anna": 6, "ben": 3, "cleo": 1}
    return Clips(*[(name, rng.standard_normal(1000)) for name, count in counts.items() for _ in range(count)])


@pytest.mark.medium
def test_levels_follow_the_published_recipe(voices):
    levels = np.array(
        [level_db(DynamicMixing(voices).draw(0, 500, np.random.default_rng(seed)).sources) for seed in range(1000)]
    )
    relative = levels[:, 1] - levels[:, 0]
    # Four standard errors of a mean and of a standard deviation over 1000 draws of N(., 2.7).
    assert levels[:, 0].mean() == pytest.approx(-27.43, abs=0.33)
    assert levels[:, 0].std() == pytest.approx(2.57, abs=0.24)
    assert relative.mean() == pytest.approx(-2.51, abs=0.34)
    assert relative.std() == pytest.approx(2.66, abs=0.24)
    assert np.corrcoef(levels[:, 0], relative)[0, 1] == pytest.approx(0, abs=0.13)


def test_the_level_is_the_mean_magnitude():
    assert level_db(np.array([[0.5, -0.5, 0.0, 0.0], [0.1, 0.1, 0.1, -0.1]])) == pytest.approx([-12.04, -20], abs=0.01)


def test_levels_of_other_sources_are_relative_to_the_first(voices, monkeypatch):
    monkeypatch.setattr(mixing, "FIRST_LEVEL_DB", (-30.0, 0.0))
    monkeypatch.setattr(mixing, "RELATIVE_LEVEL_DB", (-3.0, 0.0))
    levels = level_db(DynamicMixing(voices, num_sources=3).draw(0, 500, np.random.default_rng(0)).sources)
    assert levels == pytest.approx([-30, -33, -33], abs=1e-3)


def test_levels_stay_within_their_range(voices, monkeypatch):
    monkeypatch.setattr(mixing, "FIRST_LEVEL_DB", (-45.0, 20.0))
    monkeypatch.setattr(mixing, "PEAK", 100.0)
    levels = [level_db(DynamicMixing(voices).draw(0, 500, np.random.default_rng(seed)).sources) for seed in range(50)]
    assert np.min(levels) == pytest.approx(-45, abs=1e-3)
    assert np.max(levels) <= 1e-3


def test_all_signals_of_a_peaking_mixture_are_scaled_by_the_same_factor(rng):
    spike = 0.01 * rng.standard_normal(1000)
    spike[500] = 1000.0
    noise = rng.standard_normal(1000)
    clips = Clips(("anna", spike), ("ben", 0.5 * noise))
    mixture = DynamicMixing(clips, noise=Clips(("noise", noise))).draw(0, 1000, np.random.default_rng(1))
    mixed = mixture.mixed()
    assert max(np.abs(mixed).max(), np.abs(mixture.sources).max()) == pytest.approx(0.9, rel=1e-6)
    noisy = mixture.sources[mixture.speakers.index("ben")]
    ratio = noisy / mixture.noise
    assert np.ptp(ratio) < 1e-5 * ratio.mean()
    np.testing.assert_allclose(mixed, mixture.sources.sum(0) + mixture.noise, atol=1e-6)


@pytest.mark.medium
def test_speakers_differ_and_are_drawn_in_proportion_to_their_utterances(voices):
    drawn = [DynamicMixing(voices).draw(0, 10, np.random.default_rng(seed)).speakers for seed in range(2000)]
    assert all(first != second for first, second in drawn)
    first = Counter(speakers[0] for speakers in drawn)
    # Four standard errors of a proportion of 0.5 over 2000 draws.
    for name, share in {"anna": 0.6, "ben": 0.3, "cleo": 0.1}.items():
        assert first[name] / 2000 == pytest.approx(share, abs=0.045)


def test_every_utterance_and_every_position_in_it_is_drawn(rng):
    clips = Clips(("anna", 0.1 + np.arange(20)), ("ben", 0.1 + np.arange(20)))
    starts = set()
    for seed in range(300):
        crop = DynamicMixing(clips).draw(0, 5, np.random.default_rng(seed)).sources[0].astype(np.float64)
        starts.add(round(crop[0] / (crop[1] - crop[0]) - 0.1))
    assert starts == set(range(16))


def test_a_mixture_is_as_long_as_its_shortest_utterance(rng):
    clips = Clips(("anna", rng.standard_normal(300)), ("ben", rng.standard_normal(1000)))
    assert DynamicMixing(clips).draw(0, 200, rng).sources.shape == (2, 200)
    assert DynamicMixing(clips).draw(0, 500, rng).sources.shape == (2, 300)
    noise = Clips(("noise", rng.standard_normal(100)))
    assert DynamicMixing(clips, noise=noise).draw(0, 500, rng).sources.shape == (2, 100)


def test_a_mixture_depends_only_on_the_generator(voices):
    draw = DynamicMixing(voices, noise=voices, speeds=(95, 100, 105)).draw
    one, same, other = (draw(index, 500, np.random.default_rng(seed)) for index, seed in ((0, 7), (5, 7), (0, 8)))
    assert one.id == same.id
    assert one.sources.tobytes() == same.sources.tobytes()
    assert one.mixed().tobytes() == same.mixed().tobytes()
    assert one.sources.tobytes() != other.sources.tobytes()


def test_noise_is_added_at_its_stored_level(voices, rng):
    noise = 0.001 * rng.standard_normal(500)
    mixture = DynamicMixing(voices, noise=Clips(("noise", noise))).draw(0, 500, rng)
    np.testing.assert_array_equal(mixture.noise, noise.astype(np.float32))
    np.testing.assert_allclose(mixture.mixed() - mixture.sources.sum(0), noise, atol=1e-6)


def test_silence_is_not_mixed(rng):
    clips = Clips(("anna", np.zeros(100)), ("anna", rng.standard_normal(100)), ("ben", rng.standard_normal(100)))
    for seed in range(20):
        assert "clip0" not in DynamicMixing(clips).draw(0, 100, np.random.default_rng(seed)).id
    with pytest.raises(ValueError, match="clip0: drew a crop below min_level_db=-80"):
        DynamicMixing(Clips(("anna", np.zeros(100)), ("ben", np.ones(100)))).draw(0, 100, rng)


def test_speed_changes_the_pitch_but_not_the_length():
    clips = Clips(("anna", tone(500, 9000)), ("ben", tone(1000, 9000)))
    mixture = DynamicMixing(clips, speeds=(105,)).draw(0, 8000, np.random.default_rng(0))
    assert mixture.sources.shape == (2, 8000)
    assert sorted(map(pitch, mixture.sources)) == pytest.approx([525, 1050], abs=0.5)


def test_perturbed_sources_are_remixed_with_the_stored_noise(rng):
    sources = np.stack([tone(500, 8000), tone(1000, 8000)]).astype(np.float32)
    noise = 0.05 * rng.standard_normal(8000).astype(np.float32)
    stored = np.round((sources.sum(0) + noise) * 2**15) / 2**15
    perturbed = perturb_speed(Mixture("m", sources, RATE, stored.astype(np.float32), noise), (95, 105))
    length = 7619  # 8000 / 1.05
    assert perturbed.sources.shape == (2, length)
    assert [pitch(source) for source in perturbed.sources] == pytest.approx([475, 1050], abs=0.5)
    np.testing.assert_array_equal(perturbed.noise, noise[:length])
    np.testing.assert_array_equal(perturbed.mixed(), perturbed.sources.sum(0) + noise[:length])
    # Sources that became longer are cut to the length of the noise.
    assert perturb_speed(Mixture("m", sources, RATE, noise=noise), (95, 95)).sources.shape == (2, 8000)


def test_a_mixture_that_is_not_the_sum_of_its_sources_is_not_perturbed(rng):
    sources = np.stack([tone(500, 800), tone(1000, 800)]).astype(np.float32)
    reverberant = sources.sum(0) + 0.1 * np.roll(sources.sum(0), 50)
    with pytest.raises(ValueError, match=r"m: the mixture is not the sum .* set speeds=\(100,\)"):
        perturb_speed(Mixture("m", sources, RATE, reverberant), (95, 105))
    # Near silence, the residual is mostly rounding.
    faint = (1e-4 * sources).astype(np.float32)
    perturb_speed(Mixture("m", faint, RATE, np.round(faint.sum(0) * 2**15) / 2**15), (95, 105))


def test_crops_of_a_data_set_equal_slices_of_its_mixtures(voices, rng):
    mixtures = DrawnMixtures(DynamicMixing(voices), num_mixtures=3, max_samples=900)
    crop = CroppedMixtures(mixtures, speeds=(100,)).draw(2, 300, rng)
    whole = mixtures.read(2).sources
    starts = [s for s in range(601) if np.array_equal(whole[:, s : s + 300], crop.sources)]
    assert len(starts) == 1
    np.testing.assert_array_equal(crop.mixed(), mixtures.read(2).mixed()[starts[0] : starts[0] + 300])
    assert CroppedMixtures(mixtures, speeds=(100,)).draw(2, 5000, rng).sources.shape == (2, 900)
    assert CroppedMixtures(mixtures).draw(2, 300, rng).sources.shape == (2, 300)


def test_drawn_mixtures_are_repeatable_and_can_be_cropped(voices):
    mixtures = DrawnMixtures(DynamicMixing(voices), num_mixtures=4, max_samples=600, seed=1)
    whole = mixtures.read(3)
    assert len({mixtures.mixture_id(index) for index in range(4)}) == 4
    assert whole.sources.shape == (2, mixtures.num_samples(3))
    np.testing.assert_array_equal(mixtures.read(3, 100, 50).sources, whole.sources[:, 100:150])
    np.testing.assert_array_equal(mixtures.read(3, 100, 50).mixed(), whole.mixed()[100:150])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_sources": 4}, "num_sources=4 is not allowed: must be from 1 to the number of different speakers, 3"),
        ({"speeds": ()}, r"speeds=\(\) is not allowed"),
        ({"speeds": (0.95, 1.05)}, "whole percentages above 0"),
        ({"epoch_size": 0}, "epoch_size=0 is not allowed"),
    ],
)
@pytest.mark.own_checks
def test_options_out_of_range_are_errors(voices, options, message):
    with pytest.raises(ValueError, match=message):
        DynamicMixing(voices, **options)


def test_a_config_opens_speech_or_mixtures():
    demo = {"num_speakers": 3, "utterances_per_speaker": 1}
    mixtures = open_training_mixtures(corpus="demo", num_sources=3, epoch_size=50, **demo)
    assert (mixtures.num_sources, mixtures.sample_rate, len(mixtures)) == (3, RATE, 50)
    with pytest.raises(ValueError, match=r"either a corpus .* or a layout"):
        open_training_mixtures(num_sources=2)
    with pytest.raises(ValueError, match=r"corpus='demo' have no option 'num_speaker'; did you mean 'num_speakers'"):
        open_training_mixtures(corpus="demo", num_speaker=3)


def test_synthetic_voices_are_the_same_every_time_and_differ_between_splits():
    demo = {split: DemoUtterances(split=split, num_speakers=2, utterances_per_speaker=2) for split in SPLITS}
    again = DemoUtterances(split="train", num_speakers=2, utterances_per_speaker=2)
    assert demo["train"].read(3).tobytes() == again.read(3).tobytes()
    assert len({speech.read(3).tobytes() for speech in demo.values()}) == 3
    assert demo["train"].speaker_names == demo["test"].speaker_names
    for index in range(4):
        waveform = again.read(index)
        assert 4 * RATE <= len(waveform) <= 6 * RATE
        assert np.abs(waveform).max() == pytest.approx(0.5)
    mixtures = DemoMixtures(num_mixtures=2, num_speakers=2, seconds=1.0)
    assert (len(mixtures), mixtures.read(1).sources.shape) == (2, (2, RATE))
