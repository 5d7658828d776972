"""Reverberation, noise, babble and level drift, and their effect on the targets."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from mossformer_jax.data.acoustics import Babble, LevelDrift, RecordedNoise, Reverberation, at_snr
from mossformer_jax.data.utterances import Utterances

RATE = 8000


@pytest.fixture
def sources_ct(rng):
    return rng.standard_normal((2, RATE)).astype(np.float32)


def stored(folder, signals: dict[str, np.ndarray]) -> Utterances:
    """Writes signals given by "GROUP/NAME" as files, FOLDER/GROUP/NAME.wav."""
    for name, signal in signals.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / f"{name}.wav", signal, RATE, subtype="FLOAT")
    return Utterances.from_folder(folder, sample_rate=RATE)


def snr_db(clean: np.ndarray, noise: np.ndarray) -> float:
    return 10 * np.log10(np.mean(clean.astype(np.float64) ** 2) / np.mean(noise.astype(np.float64) ** 2))


def response(*taps: tuple[int, float]) -> np.ndarray:
    """An impulse response with single reflections, given as (sample, amplitude)."""
    impulses = np.zeros(2000)
    for sample, amplitude in taps:
        impulses[sample] = amplitude
    return impulses


def test_reverberation_keeps_the_position_of_the_direct_sound(tmp_path, sources_ct, rng):
    rooms = stored(tmp_path, {"room/a": response((37, -0.5)), "room/b": response((120, 0.2))})
    heard_ct, targets_ct = Reverberation(rooms, target="dry")(sources_ct, rng)
    np.testing.assert_allclose(np.abs(heard_ct), np.abs(sources_ct), atol=1e-5)
    np.testing.assert_allclose(targets_ct, heard_ct, atol=1e-5)


def test_reverberation_is_the_convolution_with_the_response(tmp_path, sources_ct, rng):
    rooms = stored(tmp_path, {"room/a": response((10, 0.8), (110, 0.6), (1010, 0.3))})
    heard_ct, early_ct = Reverberation(rooms, target="early", early_seconds=0.05)(sources_ct, rng)

    def delayed(samples: int) -> np.ndarray:
        return np.pad(sources_ct, ((0, 0), (samples, 0)))[:, :RATE]

    expected_early = 0.8 * sources_ct + 0.6 * delayed(100)  # unit energy, so levels do not change
    np.testing.assert_allclose(early_ct, expected_early, atol=1e-4)
    np.testing.assert_allclose(heard_ct, expected_early + 0.3 * delayed(1000), atol=1e-4)
    _, dry_ct = Reverberation(rooms, target="dry")(sources_ct, rng)
    np.testing.assert_allclose(dry_ct, 0.8 * sources_ct, atol=1e-4)


def test_sources_of_a_mixture_have_different_responses_of_one_room(tmp_path, rng):
    rooms = stored(
        tmp_path,
        {f"room{r}/place{p}": response((5, 1.0), (100 * (r + 1), 0.1 * (p + 1))) for r in range(3) for p in range(2)},
    )
    impulses_ct = np.zeros((2, 1000), np.float32)
    impulses_ct[:, 0] = 1.0
    seen = set()
    for _ in range(20):
        heard_ct, _ = Reverberation(rooms, early_seconds=0.0)(impulses_ct, rng)
        reflections = [int(np.argmax(np.abs(heard[1:]))) + 1 for heard in heard_ct]
        assert reflections[0] == reflections[1]
        assert not np.allclose(heard_ct[0], heard_ct[1])
        seen.add(reflections[0])
    assert seen == {95, 195, 295}


def test_a_silent_response_is_an_error(tmp_path, sources_ct, rng):
    rooms = stored(tmp_path, {"room/silent": np.zeros(100)})
    with pytest.raises(ValueError, match=r"silent: is silent, so it is not a room impulse response"):
        Reverberation(rooms)(sources_ct, rng)


def test_recorded_noise_has_the_drawn_snr_and_fills_the_mixture(tmp_path, sources_ct, rng):
    noise = stored(tmp_path, {"noise/short": rng.standard_normal(1000), "noise/long": rng.standard_normal(2 * RATE)})
    clean = sources_ct.sum(axis=0)
    drawn = []
    for _ in range(200):
        added = RecordedNoise(noise, snr_db=(-3.0, 12.0))(clean, rng)
        assert added.shape == clean.shape
        drawn.append(snr_db(clean, added))
        assert np.abs(added[-500:]).max() > 0
    assert min(drawn) > -3.01
    assert max(drawn) < 12.01
    assert np.mean(drawn) == pytest.approx(4.5, abs=1.0)  # 200 uniform draws: a standard error of 0.31 dB


def test_babble_contains_only_other_speakers(tmp_path, rng):
    time = np.arange(RATE) / RATE
    tones = {speaker: np.sin(2 * np.pi * 500 * (speaker + 1) * time) for speaker in range(5)}
    speech = stored(tmp_path, {f"speaker{speaker}/a": tone for speaker, tone in tones.items()})
    targets = [speech.speaker_names.index(f"speaker{speaker}") for speaker in (0, 1)]
    clean = (tones[0] + tones[1]).astype(np.float32)
    for _ in range(20):
        added = Babble(num_speakers=(2, 4), snr_db=(5.0, 5.0))(clean, speech, targets, rng)
        assert snr_db(clean, added) == pytest.approx(5.0, abs=1e-3)
        spectrum = np.abs(np.fft.rfft(added))
        assert spectrum[[500, 1000]].max() < 1e-3 * spectrum[[1500, 2000, 2500]].max()


def test_babble_without_other_speakers_is_an_error(tmp_path, rng):
    speech = stored(tmp_path, {"speaker/a": np.ones(100)})
    with pytest.raises(ValueError, match="babble needs more speakers"):
        Babble()(np.ones(100, np.float32), speech, [0], rng)


def test_levels_drift_within_their_range(rng):
    ones_ct = np.ones((2, 4 * RATE), np.float32)
    drifting_db = 20 * np.log10(LevelDrift(range_db=6.0)(ones_ct, RATE, rng))
    assert np.abs(drifting_db).max() <= 6.0 + 1e-4
    assert np.ptp(drifting_db, axis=1).min() > 1.0
    assert not np.allclose(drifting_db[0], drifting_db[1])
    assert np.abs(np.diff(drifting_db)).max() < 2 * 6.0 / (0.79 * RATE)  # no step: points are 0.8 s apart


def test_noise_added_to_silence_is_silent():
    assert not at_snr(np.ones(100, np.float32), np.zeros(100, np.float32), 10.0).any()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (lambda speech: Reverberation(speech, share=1.5), "reverberation share=1.5"),
        (lambda speech: Reverberation(speech, target="wet"), "target='wet' is not allowed: must be one of dry, early"),
        (lambda speech: Reverberation(speech, early_seconds=-1.0), "early_seconds=-1.0"),
        (lambda speech: RecordedNoise(speech, snr_db=(5.0, 0.0)), r"snr_db=\(5.0, 0.0\)"),
        (lambda speech: Babble(num_speakers=(0, 3)), r"num_speakers=\(0, 3\)"),
        (lambda speech: LevelDrift(seconds=0.0), "seconds=0.0"),
    ],
)
def test_the_error_names_the_option_out_of_range(option, message, tmp_path):
    speech = stored(tmp_path, {"speaker/a": np.ones(10)})
    with pytest.raises(ValueError, match=message):
        option(speech)
