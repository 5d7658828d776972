"""Scores of files match the definitions of the metrics, for any batch size and number of processes."""

import numpy as np
import pytest

from mossformer_jax.audio import read_audio, write_audio
from mossformer_jax.evaluation import separated_files
from mossformer_jax.evaluation.pairing import pair_files
from mossformer_jax.evaluation.separated_files import read_signals, score_files
from mossformer_jax.scoring import sdr

RATE = 8000


def defined(estimate, reference):
    """SI-SDR in float64, as the paper defines it."""
    estimate, reference = (np.asarray(x, np.float64) - np.mean(x, dtype=np.float64) for x in (estimate, reference))
    target = estimate @ reference / (reference @ reference) * reference
    return 10 * np.log10((target @ target) / ((estimate - target) @ (estimate - target)))


@pytest.fixture
def folder(tmp_path, rng):
    """Six mixtures of three sources and their estimates in the order 3, 1, 2; lengths on two rungs."""
    for name in ("mix", "s1", "s2", "s3", "e1", "e2", "e3"):
        (tmp_path / name).mkdir()
    for number, length in enumerate((4000, 9000, 6000, 8000, 8001, 7777)):
        sources = 0.1 * rng.normal(size=(3, length))
        estimates = sources[[2, 0, 1]] + 0.02 * rng.normal(size=(3, length)) + 0.01
        for name, signal in zip(
            ("mix", "s1", "s2", "s3", "e1", "e2", "e3"), [sources.sum(0), *sources, *estimates], strict=True
        ):
            write_audio(tmp_path / name / f"u{number}.wav", signal, RATE, "FLOAT")
    return tmp_path


@pytest.fixture
def utterances(folder):
    return pair_files(str(folder / "mix"), [str(folder / "s{k}" / "{id}.wav")], [str(folder / "e{k}" / "{id}.wav")])[0]


@pytest.mark.medium
def test_scores_match_their_definitions_for_any_batch_size(utterances, monkeypatch):
    monkeypatch.setattr(separated_files, "_BATCH_SAMPLES", 17_000)  # two rows of one second, or one row of two seconds
    for files, scores in zip(utterances, score_files(utterances), strict=True):
        signals = read_signals(files)
        assert scores.permutation == (1, 2, 0)
        assert scores.seconds == len(signals.mixture_t) / RATE
        for c, estimate in enumerate(scores.permutation):
            expected = defined(signals.estimates_ct[estimate], signals.references_ct[c])
            baseline = defined(signals.mixture_t, signals.references_ct[c])
            # float32 on the device, float64 here.
            assert scores.figures["si_sdr"][c] == pytest.approx(expected, abs=1e-3)
            assert scores.figures["si_sdri"][c] == pytest.approx(expected - baseline, abs=1e-3)


def test_other_metrics_use_the_permutation_and_are_in_the_row(utterances):
    counts = []
    scores = score_files(utterances[:2], ("si_sdr", "sdr"), on_scored=counts.append)
    signals = read_signals(utterances[1])
    expected = sdr(signals.estimates_ct[[0]], signals.references_ct[2])[0]
    row = scores[1].row()
    assert row["id"] == "u1"
    assert row["sdr_3"] == pytest.approx(expected, abs=1e-4)  # rows are rounded to four decimals
    assert row["sdr"] == pytest.approx(np.mean(scores[1].figures["sdr"]), abs=1e-4)
    assert sum(counts) == 4


@pytest.mark.slow
def test_the_number_of_processes_does_not_change_the_scores(utterances, monkeypatch):
    monkeypatch.setattr(separated_files, "_MIN_UTTERANCES_PER_PROCESS", 3)
    alone = score_files(utterances, ("si_sdr", "sdr"))
    assert score_files(utterances, ("si_sdr", "sdr"), jobs=2) == alone


def test_a_silent_reference_gives_nan_for_that_source_only(folder, utterances):
    for level in (0.0, 0.3):  # SI-SDR removes the mean, so a constant reference counts as silent
        write_audio(folder / "s2" / "u0.wav", np.full(4000, level), RATE, "FLOAT")
        (scores,) = score_files(utterances[:1], ("si_sdr", "sdr"))
        assert scores.silent == (False, True, False)
        for figures in scores.figures.values():
            np.testing.assert_array_equal(np.isnan(figures), [False, True, False])
        assert scores.row()["si_sdr"] is None
        assert scores.row()["silent"] == "2"


def test_files_of_different_lengths_or_rates_are_named(folder, utterances):
    write_audio(folder / "e2" / "u1.wav", np.full(8999, 0.1), RATE)
    write_audio(folder / "s1" / "u4.wav", np.full(8001, 0.1), 16_000)
    message = (
        r"e2/u1.wav: has 8999 samples at 8000 Hz, but .*mix/u1.wav has 9000 at 8000 Hz; "
        r".*s1/u4.wav: has 8001 samples at 16000 Hz, .*\. Cut or pad the files to one length"
    )
    counts = []
    with pytest.raises(ValueError, match=message):
        score_files(utterances, on_scored=counts.append)
    assert counts == []
    write_audio(folder / "mix" / "u3.wav", np.full(8000, 0.1), 16_000)
    with pytest.raises(ValueError, match=r"u3.wav: sample rate is 16000 Hz, but that of .*u0.wav is 8000 Hz; score"):
        score_files(utterances)


def _rewrite(folder, change):
    """Changes the estimates of the first utterance."""
    for name in ("e1", "e2", "e3"):
        path = folder / name / "u0.wav"
        write_audio(path, change(read_audio(path)[0][0]), RATE, "FLOAT")


def test_a_constant_delay_is_found_and_undone(folder, utterances):
    """A delay of 1 ms."""
    (right,) = score_files(utterances[:1], ("si_sdr", "sdr"))
    _rewrite(folder, lambda estimate: np.concatenate([np.zeros(8), estimate[:-8]]))
    (late,) = score_files(utterances[:1])
    assert (right.delay, late.delay) == (0, 8)
    assert np.mean(late.figures["si_sdr"]) < np.mean(right.figures["si_sdr"]) - 15
    (aligned,) = score_files(utterances[:1], ("si_sdr", "sdr"), align=True)
    for metric in ("si_sdr", "si_sdri", "sdr"):
        # 8 of 4000 samples are missing.
        np.testing.assert_allclose(aligned.figures[metric], right.figures[metric], rtol=0, atol=0.1)


@pytest.mark.parametrize("difference", [-512, -1, 1, 512])
def test_estimates_of_another_length_are_cut_on_request(folder, utterances, difference):
    (right,) = score_files(utterances[:1])
    _rewrite(folder, lambda estimate: np.pad(estimate, (0, 512))[: 4000 + difference])
    with pytest.raises(ValueError, match=r"has \d+ samples .* or cut each mixture's files to the shortest with --trim"):
        score_files(utterances[:1])
    (trimmed,) = score_files(utterances[:1], trim=True)
    assert trimmed.seconds == (4000 + min(difference, 0)) / RATE
    np.testing.assert_allclose(trimmed.figures["si_sdr"], right.figures["si_sdr"], rtol=0, atol=0.5)


def test_files_of_quite_another_length_are_not_cut(folder, utterances):
    _rewrite(folder, lambda estimate: estimate[:1900])
    for trim in (False, True):
        with pytest.raises(ValueError, match=r"u0\.wav: has 1900 samples") as raised:
            score_files(utterances[:1], trim=trim)
        assert "--trim" not in str(raised.value)


def test_problems_of_a_file_are_reported(folder, utterances):
    path = folder / "mix" / "u0.wav"
    data = bytearray(path.read_bytes())
    place = data.index(b"data") + 4
    data[place : place + 4] = bytes(4)
    path.write_bytes(data)
    warnings = []
    score_files(utterances[:1], on_warning=warnings.append)
    (warning,) = warnings
    assert warning.startswith(f"{path}: its header declares 0 bytes of audio, but 16,000 are there")
