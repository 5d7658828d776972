"""Acoustics of stored mixtures."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from mossformer_jax.data.training_mixtures import open_training_mixtures

RATE, LENGTH = 8000, 4000


@pytest.fixture
def stored(tmp_path, rng):
    """A table of two mixtures with stored noise, and folders of noise, rooms and voices."""
    lines = ["source_1,source_2,noise"]
    for number in range(2):
        for name in ("a", "b", "n"):
            level = 0.01 if name == "n" else 0.1
            soundfile.write(tmp_path / f"{name}{number}.wav", level * rng.standard_normal(LENGTH), RATE, "FLOAT")
        lines.append(f"a{number}.wav,b{number}.wav,n{number}.wav")
    (tmp_path / "train.csv").write_text("\n".join(lines))
    for folder, signal in (
        ("noise", rng.standard_normal(500) * 0.1),
        ("voices", rng.standard_normal(LENGTH) * 0.1),
        ("rooms/one", np.eye(1, 600)[0] + 0.1 * rng.standard_normal(600) * (np.arange(600) > 100)),
    ):
        (tmp_path / folder).mkdir(parents=True)
        soundfile.write(tmp_path / folder / "one.wav", signal, RATE, "FLOAT")
    return tmp_path


def opened(stored, **options):
    path = str(stored / "train.csv")
    return open_training_mixtures(layout="csv", path=path, sample_rate=RATE, speeds=(100,), **options)


def drawn_pair(stored, **options):
    """The same crop without and with the options."""
    return [opened(stored, **each).draw(0, LENGTH, np.random.default_rng(1)) for each in ({}, options)]


def test_options_with_share_zero_change_nothing(stored):
    plain, drawn = drawn_pair(stored, recorded_noise={"root": str(stored / "noise"), "share": 0.0})
    np.testing.assert_array_equal(plain.sources, drawn.sources)
    np.testing.assert_array_equal(plain.mixed(), drawn.mixed())


@pytest.mark.parametrize("name", ["recorded_noise", "babble"])
def test_noise_is_added_at_its_snr_and_the_stored_noise_stays(stored, name):
    folder = stored / ("noise" if name == "recorded_noise" else "voices")
    plain, drawn = drawn_pair(stored, **{name: {"root": str(folder), "share": 1.0, "snr_db": (5.0, 5.0)}})
    np.testing.assert_allclose(drawn.mixed(), drawn.sources.sum(axis=0) + drawn.noise, atol=1e-6)
    scale = drawn.sources[0, 0] / plain.sources[0, 0]
    added = drawn.noise / scale - plain.noise
    clean = plain.sources.sum(axis=0)
    assert 10 * np.log10(np.mean(clean**2) / np.mean(added**2)) == pytest.approx(5.0, abs=1e-2)


def test_the_mixture_is_reverberant_and_the_dry_target_is_not(stored):
    section = {"root": str(stored / "rooms"), "share": 1.0, "target": "dry"}
    plain, drawn = drawn_pair(stored, reverberation=section)
    for before, after in zip(plain.sources, drawn.sources, strict=True):
        assert np.corrcoef(before, after)[0, 1] > 0.999
    beyond = drawn.mixed() - drawn.sources.sum(axis=0) - drawn.noise
    assert np.std(beyond) > 0.05 * np.std(drawn.mixed())


def test_drift_changes_sources_and_mixture_alike_and_a_channel_the_mixture_alone(stored):
    plain, drifted = drawn_pair(stored, level_drift={"share": 1.0})
    assert not np.allclose(plain.sources, drifted.sources, atol=1e-3)
    np.testing.assert_allclose(drifted.mixed(), drifted.sources.sum(axis=0) + drifted.noise, atol=1e-6)
    plain, coded = drawn_pair(stored, channel={"share": 1.0, "codecs": ("telephone",)})
    assert not np.allclose(coded.mixed(), plain.mixed(), atol=1e-2)
    gains = coded.sources / plain.sources
    np.testing.assert_allclose(gains, gains[0, 0], rtol=1e-4)


def test_babble_of_stored_mixtures_needs_its_voices(stored):
    with pytest.raises(ValueError, match="babble needs the option root, a folder of recordings, or path"):
        opened(stored, babble={"share": 0.5})


def test_mixtures_with_reverberation_of_their_own_cannot_be_made_reverberant(stored, rng):
    soundfile.write(stored / "m.wav", rng.standard_normal(LENGTH) * 0.1, RATE, "FLOAT")
    (stored / "train.csv").write_text("mixture,source_1,source_2\nm.wav,a0.wav,b0.wav")
    with pytest.raises(ValueError, match="cannot be remixed"):
        opened(stored, level_drift={"share": 0.5})
    noisy = opened(stored, recorded_noise={"root": str(stored / "noise"), "share": 1.0})
    assert noisy.draw(0, LENGTH, rng).mixed().shape == (LENGTH,)
