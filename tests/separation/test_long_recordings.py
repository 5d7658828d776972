"""Long recordings, with a stand-in network that returns the true sources in random order."""

from __future__ import annotations

import dataclasses
import tracemalloc

import numpy as np
import pytest
import soundfile

from mossformer_jax.audio.streams import AudioWriter
from mossformer_jax.model.memory import activation_bytes
from mossformer_jax.separation import OutputOptions, Separator, separate_file
from mossformer_jax.separation.tying import SpeakerTies
from tests.separation.stand_ins import RATE, KnowingModel, conversation, with_noise

# Whole groups of frames of the tiny model, so that one sample more takes more memory.
WINDOW = 63 * 256
WINDOW_SECONDS = WINDOW / RATE
HOP = WINDOW // 2
# Pauses are longer than a window, so only the voices identify the speakers after them.
TALK = [
    (7, (0, 1)),
    (5, ()),
    (6, (0, 1)),
    (3, (1,)),
    (4.5, ()),
    (3, (0,)),
    (8, (0, 1)),
    (6, ()),
    (3, (1,)),
    (5, (0, 1)),
]


def separator_of(model, **options):
    """A separator in windows of about 2 s, and not one sample more at once."""
    memory = activation_bytes(model.config, 1, WINDOW)
    return Separator(model, memory=memory, window_seconds=WINDOW_SECONDS, **options)


@pytest.fixture(scope="module")
def talk():
    sources = conversation(TALK)
    return sources, with_noise(sources)


def error_of(sources, expected):
    """Relative L2 error under the best permutation of whole sources, because their order is arbitrary."""
    orders = [[0, 1], [1, 0]]
    return min(np.linalg.norm(sources[order] - expected) for order in orders) / np.linalg.norm(expected)


@pytest.mark.medium
@pytest.mark.parametrize("leak", [0.0, 0.15])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_random_swaps_and_long_pauses_leave_no_flip(tiny_config, talk, leak, batch_size):
    sources, mixture = talk
    model = KnowingModel(tiny_config, mixture, sources, leak=leak)
    separation = separator_of(model, batch_size=batch_size)(mixture, RATE)
    expected = sources + leak * sources[::-1]
    # One window of speech the wrong way round would be 0.1. What is let through is the order of a window that hears
    # less than 0.1 s of speech at its very edge, which its fade all but silences (see MIN_OVERLAP_SECONDS).
    assert error_of(separation.sources, expected) < 1e-3
    assert {boundary.evidence for boundary in separation.boundaries} >= {"overlap", "voice"}
    assert {boundary.evidence for boundary in separation.boundaries} <= {"overlap", "voice", "unneeded"}
    assert separation.warnings == ()
    assert all(samples == WINDOW for _, samples in model.shapes)


def test_the_swaps_that_the_last_test_undoes_are_there(tiny_config, talk, monkeypatch):
    sources, mixture = talk
    solve = SpeakerTies.solve

    def solve_nothing(ties):
        orders_wc, report = solve(ties)
        return np.tile([0, 1], (len(orders_wc), 1)), report

    monkeypatch.setattr(SpeakerTies, "solve", solve_nothing)
    separation = separator_of(KnowingModel(tiny_config, mixture, sources))(mixture, RATE)
    assert error_of(separation.sources, sources) > 0.3


@pytest.mark.parametrize("extra", [-1, 0, 1])
@pytest.mark.parametrize("hops", [0, 1, 2])
def test_lengths_about_whole_windows_lose_not_a_sample(tiny_config, talk, hops, extra):
    length = WINDOW + hops * HOP + extra
    sources, mixture = (signal[..., :length] for signal in talk)
    model = KnowingModel(tiny_config, mixture, sources)
    separation = separator_of(model)(mixture, RATE)
    assert separation.sources.shape == (2, length)
    assert error_of(separation.sources, sources) < 1e-6
    num_windows = 1 + max(0, -(-(length - WINDOW) // HOP))
    assert len(separation.boundaries) == num_windows - 1
    assert len(model.shapes) == 1


def test_recordings_that_fit_the_budget_are_separated_in_one_pass(tiny_config, talk):
    sources, mixture = talk
    model = KnowingModel(tiny_config, mixture, sources, shuffle=False)
    separation = Separator(model, memory=1e9)(mixture, RATE)
    assert separation.boundaries == ()
    np.testing.assert_array_equal(separation.sources, sources)
    ((_, padded),) = model.shapes
    assert len(mixture) <= padded <= 1.25 * len(mixture)


def test_a_long_silence_gives_silence_without_running_the_network(tiny_config):
    mixture = np.zeros(10 * WINDOW, np.float32)
    model = KnowingModel(tiny_config, mixture, np.zeros((2, len(mixture)), np.float32))
    separation = separator_of(model)(mixture, RATE)
    np.testing.assert_array_equal(separation.sources, 0.0)
    assert separation.sources.shape == (2, len(mixture))
    assert (model.shapes, separation.boundaries) == ([], ())
    assert separation.warnings == ("the recording is silent",)


def test_silent_windows_have_silent_sources_whatever_the_network_outputs(tiny_config):
    """A network that decodes its masks directly has non-zero outputs for silence."""

    class HearingThings(KnowingModel):
        def _separate(self, mixture_bt, lengths_b):
            return np.full((len(mixture_bt), 2, mixture_bt.shape[1]), 0.1, np.float32)

    mixture = np.zeros(6 * WINDOW, np.float32)
    mixture[:HOP] = 0.1
    separation = separator_of(HearingThings(tiny_config, mixture, np.zeros((2, 1))))(mixture, RATE)
    assert np.abs(separation.sources[:, : WINDOW // 2]).min() > 0.0
    np.testing.assert_array_equal(separation.sources[:, WINDOW + 1 :], 0.0)


def test_undecided_boundaries_are_a_warning(tiny_config):
    """The same voice for both talkers, and a pause that no window bridges."""
    first = conversation([(5, (0,)), (5, ()), (5, (0,))])[0]
    sources = np.stack([first, np.roll(first, 1601)])
    mixture = with_noise(sources)
    separation = separator_of(KnowingModel(tiny_config, mixture, sources))(mixture, RATE)
    undecided = [boundary for boundary in separation.boundaries if boundary.evidence == "none"]
    assert undecided
    assert all(boundary.margin == 0.0 and 4 < boundary.time < 12 for boundary in undecided)
    (warning,) = separation.warnings
    assert f"{len(undecided)} of {len(separation.boundaries)} window boundaries are undecided" in warning


def test_the_level_is_measured_once_and_not_in_every_window(tiny_config, talk):
    """The second half is 30 dB quieter and stays so. Levels set per window would change it and disturb the joins."""
    sources = talk[0] * np.where(np.arange(talk[0].shape[1]) < talk[0].shape[1] // 2, 1.0, 0.03).astype(np.float32)
    mixture = with_noise(sources)
    levels = []

    class ListeningModel(KnowingModel):
        def _separate(self, mixture_bt, lengths_b):
            levels.append(np.abs(mixture_bt).max())
            return np.stack([mixture_bt, mixture_bt], axis=1)

    config = dataclasses.replace(tiny_config, input_level_db=-25.0)
    separation = separator_of(ListeningModel(config, mixture, sources))(mixture, RATE)
    assert max(levels) > 20 * min(levels)
    np.testing.assert_allclose(separation.sources[0], mixture, rtol=0, atol=1e-6 * np.abs(mixture).max())


def test_a_window_that_does_not_fit_the_budget_is_named(tiny_config, talk):
    sources, mixture = talk
    separator = Separator(KnowingModel(tiny_config, mixture, sources), memory=1e6, window_seconds=4.0)
    with pytest.raises(ValueError, match=r"memory budget is 0.001 GB, but a window of 4 s takes 0.0\d+ GB; raise"):
        separator(mixture, RATE)


@pytest.mark.parametrize("rate", [RATE, 11_025])
def test_files_are_separated_like_arrays(tiny_config, talk, tmp_path, rate):
    sources, mixture = talk
    separator = separator_of(KnowingModel(tiny_config, mixture, sources, shuffle=False))
    with AudioWriter(tmp_path / "talk.wav", RATE, "FLOAT") as writer:
        writer.write(mixture[None])
    told = []
    outputs = [tmp_path / "a" / "s1.wav", tmp_path / "a" / "s2.wav"]
    separated = separate_file(
        separator, tmp_path / "talk.wav", outputs, OutputOptions(subtype="FLOAT"), progress=told.append
    )
    assert sum(told) == pytest.approx(separated.duration) == pytest.approx(len(mixture) / RATE)
    assert len(told) == len(separated.boundaries) + 1
    written = np.concatenate([soundfile.read(path, dtype="float32", always_2d=True)[0] for path in outputs], axis=1).T
    assert error_of(written, sources) < 1e-6


@pytest.mark.medium
def test_memory_does_not_grow_with_the_recording(tiny_config, tmp_path, monkeypatch):
    """The memory that Python and numpy allocate for recordings of half a minute and two minutes."""
    monkeypatch.setattr("mossformer_jax.separation.spool.MEMORY_BYTES", 2**20)

    class CopyingModel(KnowingModel):
        def _separate(self, mixture_bt, lengths_b):
            return np.stack([mixture_bt, -mixture_bt], axis=1)

    def peak_bytes(minutes):
        path = tmp_path / f"{minutes}.wav"
        rng = np.random.default_rng(0)
        with AudioWriter(path, 2 * RATE) as writer:
            for _ in range(round(6 * minutes)):
                writer.write(0.1 * rng.uniform(-1, 1, (1, 10 * 2 * RATE)))
        separator = separator_of(CopyingModel(tiny_config, np.zeros(1), np.zeros((2, 1))))
        tracemalloc.start()
        separate_file(separator, path, [tmp_path / "s1.wav", tmp_path / "s2.wav"])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    short, long = peak_bytes(0.5), peak_bytes(2)
    # The sources of one and a half minutes would be 11.5 MB at the file's rate.
    assert long < short + 1e6
