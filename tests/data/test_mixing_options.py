"""Options of dynamic mixing beyond the published recipe: single sources, partial overlap, noise, levels, speakers."""

from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import pytest

from mossformer_jax.data import mixing
from mossformer_jax.data.mixing import DynamicMixing, level_db
from mossformer_jax.data.records import Mixture
from tests.data.test_mixing import RATE, Clips


def draws(count: int, num_samples: int = 500, **options) -> list[Mixture]:
    """Mixtures of two speakers, from generators with different seeds."""
    rng = np.random.default_rng(0)
    clips = Clips(*[(name, rng.standard_normal(1000)) for name in ("anna", "ben")])
    mixing_ = DynamicMixing(clips, **options)
    return [mixing_.draw(0, num_samples, np.random.default_rng(seed)) for seed in range(count)]


def test_the_published_recipe_has_not_changed():
    """Compares a fixed draw: options that are not set must not draw from the generator."""
    mixture = DynamicMixing(
        Clips(("anna", np.arange(1.0, 2001)), ("ben", np.arange(2000.0, 0, -1))), noise=Clips(("n", np.ones(900)))
    ).draw(0, 700, np.random.default_rng(3))
    rng = np.random.default_rng(3)
    order = []
    while len(order) < 2:
        utterance = int(rng.integers(2))
        order += [utterance] * (utterance not in order)
    rng.choice((100,), 2)
    rng.integers(1)
    rng.integers(201)  # start of the noise crop
    starts = [int(rng.integers(1301)) for _ in order]
    first = np.clip(rng.normal(-27.43, 2.57), -45, 0)
    levels = [first, np.clip(first + rng.normal(-2.51, 2.66, 1)[0], -45, 0)]
    waves = [np.arange(1.0, 2001), np.arange(2000.0, 0, -1)]
    for source, index, start, level in zip(mixture.sources, order, starts, levels, strict=True):
        crop = waves[index][start : start + 700]
        expected = crop / crop.mean() * 10 ** (level / 20)
        assert np.ptp(source / expected) < 1e-5 * (source / expected).mean()
    assert mixture.id == "_".join(f"clip{index}" for index in order)


@pytest.mark.medium
def test_single_share_leaves_one_active_source():
    heard = [np.abs(mixture.sources).max(axis=1) > 0 for mixture in draws(600, single_share=0.3)]
    # Four standard errors of a proportion of 0.3 over 600 draws.
    assert np.mean([not both.all() for both in heard]) == pytest.approx(0.3, abs=0.075)
    assert all(both.any() for both in heard)
    alone = [int(np.flatnonzero(both)[0]) for both in heard if not both.all()]
    assert 0.3 < np.mean(alone) < 0.7


def test_partial_share_shortens_sources():
    mixtures = draws(300, partial_share=0.5)
    spans = np.array([[np.flatnonzero(source)[[0, -1]] for source in mixture.sources] for mixture in mixtures])
    whole = (spans[..., 1] - spans[..., 0] > 495).all(axis=1)
    assert all(mixture.sources.shape == (2, 500) for mixture in mixtures)
    # Four standard errors, plus a margin for parts that are almost as long as the mixture.
    assert np.mean(~whole) == pytest.approx(0.5, abs=0.12)
    parts = spans[~whole]
    assert np.min(parts[..., 1] - parts[..., 0]) >= 0.3 * 500 - 5
    assert np.mean(parts[..., 0] > 5) > 0.5, "parts do not begin anywhere"
    assert np.mean(parts[..., 1] < 494) > 0.5, "parts do not end anywhere"


def test_the_active_part_of_a_source_has_the_drawn_level(monkeypatch):
    monkeypatch.setattr(mixing, "FIRST_LEVEL_DB", (-30.0, 0.0))
    for mixture in draws(20, 4000, partial_share=1.0, relative_range_db=(-3.0, -3.0), fill=True):
        for source, expected in zip(mixture.sources, (-30.0, -33.0), strict=True):
            # The fades of 80 samples at both ends lower the level slightly.
            assert level_db(source[source != 0]) == pytest.approx(expected, abs=1.5)


def test_fill_adds_other_utterances_and_then_silence(rng):
    marks = {"anna": (1.0, 3.0), "ben": (2.0,)}
    clips = Clips(*[(name, np.full(400, mark)) for name, values in marks.items() for mark in values])
    for seed in range(20):
        mixture = DynamicMixing(clips, fill=True, relative_range_db=(0, 0)).draw(0, 1000, np.random.default_rng(seed))
        anna, ben = (mixture.sources[mixture.speakers.index(name)] for name in ("anna", "ben"))
        # Compared in the middle of the pieces, away from the fades: both utterances of this speaker.
        assert [np.sum(np.isclose(anna / anna.max(), height)) for height in (1 / 3, 1)] == [240, 240]
        assert np.count_nonzero(ben) in range(396, 401)
        assert np.count_nonzero(anna) in range(792, 801)


def test_utterances_of_unknown_speakers_are_not_joined():
    clips = Clips(("unknown", np.full(400, 1.0)), ("unknown", np.full(400, 2.0)), ("ben", np.full(1000, 1.0)))
    mixture = DynamicMixing(clips, fill=True).draw(0, 1000, np.random.default_rng(0))
    assert np.count_nonzero(mixture.sources[mixture.speakers.index("unknown")]) in range(396, 401)


def test_a_source_of_full_length_is_neither_faded_nor_moved():
    for mixture in draws(5, fill=True):
        assert np.count_nonzero(mixture.sources[:, [0, -1]]) == 4


@pytest.mark.medium
def test_relative_levels_are_drawn_from_their_range():
    levels = np.array([level_db(mixture.sources) for mixture in draws(500, relative_range_db=(-10, 10))])
    relative = levels[:, 1] - levels[:, 0]
    assert relative.min() == pytest.approx(-10, abs=0.3)
    assert relative.max() == pytest.approx(10, abs=0.3)
    # Four standard errors of the mean of 500 draws.
    assert relative.mean() == pytest.approx(0, abs=4 * 20 / np.sqrt(12 * 500))


@pytest.mark.medium
def test_noise_has_the_configured_snr_and_share():
    mixtures = draws(400, noise_share=0.5, noise_snr_db=(20, 30))
    noisy = [mixture for mixture in mixtures if mixture.noise is not None]
    assert len(noisy) / 400 == pytest.approx(0.5, abs=0.1)
    ratios = [10 * np.log10(np.mean(m.sources.sum(0) ** 2) / np.mean(m.noise**2)) for m in noisy]
    assert np.min(ratios) == pytest.approx(20, abs=0.5)
    assert np.max(ratios) == pytest.approx(30, abs=0.5)
    np.testing.assert_array_equal(noisy[0].mixed(), noisy[0].sources.sum(0) + noisy[0].noise)


def test_noise_is_between_white_and_pink():
    slopes = []
    for mixture in draws(100, 1000, noise_share=1.0):
        power = np.abs(np.fft.rfft(mixture.noise)) ** 2
        # Power ratio of two octaves: 8 for white noise, 1 for pink noise.
        slopes.append(np.log2(power[256:512].sum() / power[32:64].sum()) / 3)
    assert -0.3 < np.min(slopes) < 0.3
    assert 0.7 < np.max(slopes) < 1.3


def test_crops_without_speech_are_drawn_again():
    clips = Clips(("anna", np.full(100, 1e-3)), ("anna", np.full(100, 0.1)), ("ben", np.full(100, 0.1)))

    def names(**options):
        return {DynamicMixing(clips, **options).draw(0, 100, np.random.default_rng(seed)).id for seed in range(50)}

    assert names() == {"clip0_clip2", "clip2_clip0", "clip1_clip2", "clip2_clip1"}
    assert names(min_level_db=-40.0) == {"clip1_clip2", "clip2_clip1"}
    with pytest.raises(ValueError, match=r"clip\d: drew a crop below min_level_db=-10 "):
        names(min_level_db=-10.0)


@pytest.mark.medium
def test_speakers_can_be_drawn_in_proportion_to_capped_durations(rng):
    counts = {"anna": 40, "ben": 4, "cleo": 4}
    clips = Clips(*[(name, rng.standard_normal(RATE // 4)) for name, count in counts.items() for _ in range(count)])
    mixtures = DynamicMixing(clips, max_speaker_seconds=2.0)
    drawn = [mixtures.draw(0, 10, np.random.default_rng(seed)) for seed in range(1000)]
    first = Counter(mixture.speakers[0] for mixture in drawn)
    # 10 s capped at 2 s, and twice 1 s. Four standard errors of a proportion of 0.5 over 1000 draws.
    for name, share in {"anna": 0.5, "ben": 0.25, "cleo": 0.25}.items():
        assert first[name] / 1000 == pytest.approx(share, abs=0.065)
    assert all(first != second for first, second in (mixture.speakers for mixture in drawn))
    assert len({mixture.id.split("_")[0] for mixture in drawn}) == len(clips)


def test_with_all_options_a_mixture_depends_only_on_the_generator():
    rng = np.random.default_rng(0)
    voices = Clips(*[(name, rng.standard_normal(1000)) for name in ("anna", "anna", "ben", "cleo")])
    mixtures = DynamicMixing(
        voices,
        speeds=(95, 100, 105),
        single_share=0.3,
        partial_share=0.5,
        fill=True,
        relative_range_db=(-10, 10),
        noise_share=0.5,
        min_level_db=-45.0,
        max_speaker_seconds=60.0,
    )
    sent = pickle.loads(pickle.dumps(mixtures))
    for seed in range(20):
        one, same = (drawn.draw(0, 1500, np.random.default_rng(seed)) for drawn in (mixtures, sent))
        assert one.sources.shape == (2, 1500)
        assert one.mixed().tobytes() == same.mixed().tobytes()
        assert one.sources.tobytes() == same.sources.tobytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"single_share": 1.5}, "single_share=1.5 is not allowed: must be from 0 to 1"),
        ({"partial_share": -0.1}, "partial_share=-0.1 is not allowed"),
        ({"noise_share": 2}, "noise_share=2 is not allowed"),
        ({"noise_snr_db": (50, 20)}, r"noise_snr_db=\(50, 20\) is not allowed: must be two numbers in dB"),
        ({"relative_range_db": (3,)}, r"relative_range_db=\(3,\) is not allowed"),
        ({"min_level_db": 3.0}, "min_level_db=3.0 is not allowed: must be from -80 to below 0"),
        ({"max_speaker_seconds": 0.0}, "max_speaker_seconds=0.0 is not allowed: must be above 0, or None"),
    ],
)
@pytest.mark.own_checks
def test_options_out_of_range_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        draws(0, **options)
