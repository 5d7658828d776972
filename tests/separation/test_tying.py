"""Windows of known sources in a random order: every speaker must stay in one stream."""

from __future__ import annotations

import csv
import os

import numpy as np
import pytest
import soundfile

from mossformer_jax.separation.tying import SpeakerTies
from tests.conftest import REPOSITORY
from tests.separation.voices_for_tests import (
    LOUDNESS,
    RATE,
    WINDOW,
    num_flips,
    starts_of,
    talk,
    tie,
    tie_swapped,
    timeline,
)


def together(num_talkers, *spans):
    """All talkers at once in these spans, each starting a little later than the one before."""
    return [(talker, a + 0.3 * talker, b - 0.2 * talker) for a, b in spans for talker in range(num_talkers)]


@pytest.mark.medium
@pytest.mark.parametrize("num_talkers", [2, 3, 4])
def test_swapped_windows_are_reordered_across_a_long_silence(rng, num_talkers):
    sources = timeline(rng, together(num_talkers, (0, 12), (28, 38), (52, 61)), num_talkers, 62)
    for _ in range(3):
        speakers, report, talking = tie_swapped(rng, sources)
        assert num_flips(speakers, talking) == 0
        assert {tie.evidence for tie in report} == {"overlap", "voice", "unneeded"}


@pytest.mark.parametrize("leak", [0.1, 0.2])
def test_sources_that_leak_into_each_other_are_tied(rng, leak):
    sources = timeline(rng, together(2, (0, 10), (26, 36)), 2, 37)
    speakers, _, talking = tie_swapped(rng, sources, leak)
    assert num_flips(speakers, talking) == 0


@pytest.mark.medium
def test_a_speaker_who_stops_for_a_minute_returns_in_the_same_stream(rng):
    sources = timeline(rng, [(0, 0, 90), (1, 2, 10), (1, 72, 88)], 2, 90)
    speakers, report, talking = tie_swapped(rng, sources)
    assert num_flips(speakers, talking) == 0
    assert {tie.evidence for tie in report} == {"overlap"}


@pytest.mark.medium
def test_speakers_who_take_turns_are_tied(rng):
    turns = [(n % 2, 12 * n, 12 * n + 3) for n in range(8)]
    speakers, report, talking = tie_swapped(rng, timeline(rng, turns, 2, 96))
    assert num_flips(speakers, talking) == 0
    assert "none" not in {tie.evidence for tie in report}


def test_silence_needs_no_evidence(rng):
    _, report, _ = tie_swapped(rng, np.zeros((2, 3 * WINDOW)))
    assert {(tie.margin, tie.evidence) for tie in report} == {(0.0, "unneeded")}


def test_one_window_keeps_its_order(rng):
    ties = SpeakerTies(2, RATE, LOUDNESS)
    ties.add(timeline(rng, together(2, (0, 3)), 2, 3), 0)
    order_wc, report = ties.solve()
    np.testing.assert_array_equal(order_wc, [[0, 1]])
    assert report == []


def test_a_single_output_needs_no_evidence(rng):
    speakers, report, _ = tie_swapped(rng, timeline(rng, [(0, 0, 20)], 1, 20))
    assert not speakers.any()
    assert {tie.evidence for tie in report} == {"unneeded"}


@pytest.mark.parametrize("hop", [1, 500, WINDOW // 2, WINDOW - 2000, WINDOW - 1, WINDOW])
def test_the_last_window_may_overlap_by_any_length(rng, hop):
    sources = timeline(rng, together(2, (0, 17)), 2, 17)
    windows = [sources[:, start : start + WINDOW] for start in (0, hop)]
    speakers, _ = tie(windows, [0, hop], [np.array([0, 1]), np.array([1, 0])])
    np.testing.assert_array_equal(speakers, [[0, 1], [0, 1]])


@pytest.mark.parametrize("swapped", [False, True])
def test_after_a_silence_identical_voices_keep_the_order_of_the_outputs(rng, swapped):
    sources = np.zeros((2, 40 * RATE))
    for begin in (0, 28):
        for c in range(2):
            sources[c, (begin + 4 * c) * RATE :][: 4 * RATE] = talk(rng, 0, 4)
    if swapped:
        sources[:, 20 * RATE :] = sources[::-1, 20 * RATE :].copy()
    starts = starts_of(sources.shape[1])
    windows = [sources[:, start : start + WINDOW] for start in starts]
    order_wc, report = tie(windows, starts, [np.arange(2)] * len(starts))
    assert (order_wc == [0, 1]).all()
    assert [tie.margin for tie in report if tie.evidence == "none"] == [0.0]


@pytest.mark.medium
def test_noise_in_the_silence_does_not_swap_speakers(rng):
    sources = timeline(rng, together(2, (0, 9), (25, 36)), 2, 37)
    noise = 10 ** (-32 / 20) * LOUDNESS * rng.standard_normal(sources.shape[1])
    starts = starts_of(sources.shape[1])
    talking = np.array([np.abs(sources[:, start : start + WINDOW]).max(axis=1) > 0 for start in starts])
    for _ in range(4):
        permutations = [rng.permutation(2) for _ in starts]
        windows = [sources[:, start : start + WINDOW].copy() for start in starts]
        for window, start, permutation in zip(windows, starts, permutations, strict=True):
            # All of the noise is in the first output, as it could be with a network.
            window[permutation[0]] += noise[start : start + WINDOW]
        speakers, _ = tie(windows, starts, permutations)
        assert num_flips(speakers, talking) == 0


@pytest.mark.medium
def test_permuted_outputs_permute_the_orders_and_change_no_margin(rng):
    sources = timeline(rng, together(3, (0, 10), (26, 36)), 3, 37)
    starts = starts_of(sources.shape[1])
    windows = [sources[:, start : start + WINDOW] for start in starts]
    straight, report = tie(windows, starts, [np.arange(3)] * len(starts))
    # The first window's order names the speakers.
    permutations = [np.arange(3), *(rng.permutation(3) for _ in starts[1:])]
    speakers, permuted_report = tie(windows, starts, permutations)
    talking = [np.abs(window).max(axis=1) > 0 for window in windows]
    for one, other, talks in zip(straight, speakers, talking, strict=True):
        if talks.all():
            np.testing.assert_array_equal(one, other)
    assert [tie.evidence for tie in report] == [tie.evidence for tie in permuted_report]
    # Sums in another order differ by rounding.
    np.testing.assert_allclose([t.margin for t in report], [t.margin for t in permuted_report], atol=1e-6)


def test_channels_are_tied_together(rng):
    sources = timeline(rng, together(2, (0, 17)), 2, 17)
    stereo = np.stack([np.zeros_like(sources), sources], axis=1)
    windows = [stereo[..., start : start + WINDOW] for start in (0, WINDOW // 2)]
    speakers, report = tie(windows, [0, WINDOW // 2], [np.array([0, 1]), np.array([1, 0])])
    np.testing.assert_array_equal(speakers, [[0, 1], [0, 1]])
    assert report[0].evidence == "overlap"


def test_windows_that_do_not_fit_are_refused(rng):
    ties = SpeakerTies(2, RATE, LOUDNESS)
    ties.add(np.zeros((2, RATE)), 100)
    with pytest.raises(ValueError, match="3 outputs, but must have 2"):
        ties.add(np.zeros((3, RATE)), 200)
    with pytest.raises(ValueError, match="at sample 100 follows one at 100"):
        ties.add(np.zeros((2, RATE)), 100)


@pytest.fixture(scope="module")
def real_voices():
    """Half a minute of speech of two women and two men each; the recordings are not in the repository."""
    root = os.environ.get("MOSSFORMER_JAX_DATA", REPOSITORY.parent / "shared" / "data")
    manifest = os.path.join(root, "speech8k", "manifest.csv")
    if not os.path.exists(manifest):
        pytest.skip(f"no real recordings at {manifest} (set MOSSFORMER_JAX_DATA to the folder that holds speech8k)")
    with open(manifest, newline="") as file:
        clips = [row for row in csv.DictReader(file) if row["split"] == "dev" and row["speaker_known"] == "1"]
    voices: dict[tuple[str, str], list[np.ndarray]] = {}
    for clip in clips:
        paths = voices.setdefault((clip["gender"], clip["speaker"]), [])
        if sum(map(len, paths)) < 30 * RATE:
            paths.append(soundfile.read(os.path.join(root, "speech8k", clip["path"]))[0])
    long = {key: np.concatenate(clips) for key, clips in sorted(voices.items()) if sum(map(len, clips)) >= 30 * RATE}
    women, men = ([voice for (gender, _), voice in long.items() if gender == wanted] for wanted in "FM")
    return [*women[:2], *men[:2]]


@pytest.mark.parametrize("pair", [(0, 1), (2, 3), (0, 2), (1, 3)])
def test_real_speakers_are_tied_across_long_silences(rng, real_voices, pair):
    sources = np.zeros((2, 72 * RATE))
    for c, voice in enumerate(real_voices[n] for n in pair):
        voice = LOUDNESS * voice / np.sqrt(np.square(voice).mean())
        for piece, begin in enumerate((0, 24, 46)):
            part = voice[8 * RATE * piece :][: 8 * RATE]
            sources[c, (begin + 4 * c) * RATE :][: len(part)] = part
    speakers, report, talking = tie_swapped(rng, sources, leak=0.1, loudness=2 * LOUDNESS)
    assert num_flips(speakers, talking) == 0
    assert "none" not in {tie.evidence for tie in report}
