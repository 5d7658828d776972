"""Dynamic mixing with reverberation, noise, babble, level drift and channels."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from mossformer_jax.data.mixing import PEAK, DynamicMixing
from mossformer_jax.data.training_mixtures import open_training_mixtures

RATE = 8000


@pytest.fixture
def folders(tmp_path, rng):
    """Folders of speech (four speakers), noise and room impulse responses (two rooms)."""
    for speaker in range(4):
        for utterance in range(2):
            _write(tmp_path / f"speech/{speaker}/{utterance}.wav", 0.1 * rng.standard_normal(RATE))
    _write(tmp_path / "noise/hiss.wav", 0.1 * rng.standard_normal(RATE))
    for room in range(2):
        for place in range(2):
            decay = np.exp(-np.arange(1000) / 200) * rng.standard_normal(1000) * 0.1
            decay[:50], decay[20] = 0.0, 1.0  # the first reflection comes after the direct sound has ended
            _write(tmp_path / f"rooms/room{room}/{place}.wav", decay)
    return tmp_path


def _write(path, signal) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, signal, RATE, subtype="FLOAT")


def opened(folders, **sections) -> DynamicMixing:
    speech = {"corpus": "folder", "root": str(folders / "speech"), "sample_rate": RATE}
    mixtures = open_training_mixtures(**speech, **sections)
    assert isinstance(mixtures, DynamicMixing)
    return mixtures


def everything(folders) -> dict[str, dict]:
    return {
        "level_drift": {"share": 0.5},
        "reverberation": {"root": str(folders / "rooms"), "share": 0.5, "target": "early"},
        "recorded_noise": {"root": str(folders / "noise"), "share": 0.5, "snr_db": (0.0, 10.0)},
        "babble": {"share": 0.5, "num_speakers": (1, 2)},
        "channel": {"share": 0.5},
    }


def test_a_mixture_depends_only_on_the_seed(folders):
    mixtures = opened(folders, **everything(folders))
    for seed in range(20):
        first, second = (mixtures.draw(0, 4000, np.random.default_rng(seed)) for _ in range(2))
        np.testing.assert_array_equal(first.mixed(), second.mixed())
        np.testing.assert_array_equal(first.sources, second.sources)
        assert first.mixed().shape == first.sources.shape[1:]
        assert np.isfinite(first.mixed()).all()


def test_options_with_share_zero_do_not_change_other_draws(folders):
    plain = opened(folders)
    never = opened(folders, **{name: {**fields, "share": 0.0} for name, fields in everything(folders).items()})
    for seed in range(10):
        first, second = (mixtures.draw(0, 4000, np.random.default_rng(seed)) for mixtures in (plain, never))
        np.testing.assert_array_equal(first.mixed(), second.mixed())
        np.testing.assert_array_equal(first.sources, second.sources)


@pytest.mark.medium
def test_each_option_applies_to_its_fraction_of_the_mixtures(folders):
    rng = np.random.default_rng(0)
    for name, fields in everything(folders).items():
        mixtures = opened(folders, **{name: {**fields, "share": 0.25}})
        plain = opened(folders)
        changed = 0
        for seed in rng.integers(2**32, size=200):
            first, second = (source.draw(0, 800, np.random.default_rng(seed)) for source in (mixtures, plain))
            changed += not np.allclose(first.mixed(), second.mixed(), atol=1e-6)
        assert 30 <= changed <= 71, name  # 50 expected, with a standard deviation of 6


def test_the_mixture_is_reverberant_and_the_dry_target_is_not(folders):
    reverberation = {**everything(folders)["reverberation"], "share": 1.0, "target": "dry"}
    mixtures, plain = opened(folders, reverberation=reverberation), opened(folders)
    first, second = (source.draw(0, 4000, np.random.default_rng(1)) for source in (mixtures, plain))
    for target, source in zip(first.sources, second.sources, strict=True):
        gain = float(target @ source) / float(source @ source)
        np.testing.assert_allclose(target, gain * source, atol=1e-5)
    rest = first.mixed() - first.sources.sum(axis=0)
    assert 0.05 < np.linalg.norm(rest) / np.linalg.norm(first.mixed()) < 0.9


def test_recordings_can_be_listed_in_a_table(folders):
    (folders / "noise.csv").write_text("path,speaker,split\nnoise/hiss.wav,a,train\nnoise/missing.wav,b,dev\n")
    table = {"path": str(folders / "noise.csv"), "split": "train", "share": 1.0}
    folder = {"root": str(folders / "noise"), "share": 1.0}
    first, second = (
        opened(folders, recorded_noise=fields).draw(0, 4000, np.random.default_rng(3)) for fields in (table, folder)
    )
    np.testing.assert_array_equal(first.mixed(), second.mixed())


def test_no_signal_peaks_above_the_limit(folders):
    mixtures = opened(folders, recorded_noise={"root": str(folders / "noise"), "share": 1.0, "snr_db": (-30.0, -30.0)})
    for seed in range(10):
        mixture = mixtures.draw(0, 4000, np.random.default_rng(seed))
        assert np.abs(mixture.mixed()).max() <= PEAK + 1e-6
        assert mixture.noise is not None
        np.testing.assert_allclose(mixture.mixed(), mixture.sources.sum(axis=0) + mixture.noise, atol=1e-6)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"babble": {"shares": 0.5}}, "babble has no option 'shares'; did you mean 'share'"),
        ({"reverberation": {"share": 0.5}}, "reverberation needs the option root, a folder of recordings, or path"),
        ({"channel": {"codecs": ("g729",)}}, "choose from telephone"),
    ],
)
def test_the_error_names_the_wrong_section(folders, sections, message):
    with pytest.raises(ValueError, match=message):
        opened(folders, **sections)
