"""The sums that describe a voice, for synthetic talkers."""

import numpy as np

from mossformer_jax.separation.voices import voice_log_odds, voice_sums
from tests.separation.voices_for_tests import LOUDNESS, RATE, talk


def one(rng, talker, seconds=4.0):
    return voice_sums(talk(rng, talker, seconds)[None], RATE, LOUDNESS)


def test_the_same_voice_is_more_likely_than_another(rng):
    voices = np.concatenate([one(rng, talker) for talker in range(4)])
    again = np.concatenate([one(rng, talker) for talker in range(4)])
    log_odds = voice_log_odds(voices, again)
    assert (np.diag(log_odds) > 1).all()
    assert (log_odds[~np.eye(4, dtype=bool)] < -1).all()


def test_level_has_no_part_in_a_voice(rng):
    voice = talk(rng, 0, 2.0)[None]
    # The spectral floor and the gate are relative to the level, so only rounding differs.
    np.testing.assert_allclose(
        voice_sums(0.1 * voice, RATE, 0.1 * LOUDNESS), voice_sums(voice, RATE, LOUDNESS), rtol=1e-6
    )


def test_silence_noise_and_a_few_samples_are_no_evidence(rng):
    noise = LOUDNESS * rng.standard_normal((1, 2 * RATE))
    known = one(rng, 0)
    for sources in (np.zeros((1, RATE)), noise, np.ones((1, 100)), np.zeros((1, 0))):
        # A frame of noise can be periodic by chance.
        assert abs(voice_log_odds(known, voice_sums(sources, RATE, LOUDNESS))[0, 0]) < 0.3


def test_a_leak_of_another_voice_is_not_taken_for_a_talker(rng):
    voice = talk(rng, 0, 2.0)
    sums = voice_sums(np.stack([voice, 0.3 * voice]), RATE, LOUDNESS)
    assert sums[0, 1] > 50
    assert not sums[1].any()


def test_channels_count_together(rng):
    voice = talk(rng, 0, 2.0)
    np.testing.assert_allclose(
        voice_sums(np.stack([voice, voice])[None], RATE, LOUDNESS), voice_sums(voice[None], RATE, LOUDNESS), rtol=1e-9
    )


def test_pitch_is_found(rng):
    # The pitch of talker 0 glides by 10 % about 100 Hz.
    sums = one(rng, 0)[0]
    assert abs(np.exp(sums[2] / sums[1]) - 100) < 8
