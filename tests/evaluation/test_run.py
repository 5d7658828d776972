"""Evaluation of a whole data set, and resuming an interrupted evaluation."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mossformer_jax.audio import read_audio
from mossformer_jax.data.records import Mixture
from mossformer_jax.evaluation.evaluate import Scores
from mossformer_jax.evaluation.examples import write_examples
from mossformer_jax.evaluation.page import write_report
from mossformer_jax.evaluation.partial import PartialMetrics
from mossformer_jax.evaluation.report import read_metrics, summarize, utterance_row
from mossformer_jax.evaluation.run import TestSet, evaluate_model
from mossformer_jax.evaluation.scorer import ScoredBatch

IDENTITY = {"weights": "abc", "metrics": ["si_sdr", "sdr"]}


@pytest.fixture
def test_set(noises):
    genders = {f"low{index}": "M" for index in range(6)} | {"high": "F"}
    return TestSet(noises, metrics=("si_sdr", "sdr"), genders=genders, batch_size=2)


@pytest.mark.medium
def test_an_evaluation_writes_one_row_per_utterance_in_the_order_of_the_data(test_set, swapping_scorer, tmp_path):
    evaluation = evaluate_model(swapping_scorer, test_set, tmp_path / "out", identity=IDENTITY)
    evaluation.partial.remove()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["metrics.csv", "summary.json"]
    rows = read_metrics(tmp_path / "out" / "metrics.csv")
    assert rows == evaluation.rows
    assert [row["id"] for row in rows] == [f"mixture{index}" for index in range(7)]
    assert [row["seconds"] for row in rows] == [5.0, 0.9, 10.0, 3.33, 9.99, 2.1, 5.01]
    # The gender of the last mixture's first speaker is unknown.
    assert [row["genders"] for row in rows] == ["FM"] * 6 + [""]
    for row in rows:
        assert row["sdr_1"] > row["si_sdr_1"]  # a filter of 512 taps explains more than a gain
        assert row["si_sdr"] == pytest.approx((row["si_sdr_1"] + row["si_sdr_2"]) / 2, abs=1e-3)
        assert row["si_sdr_1"] + 5 < row["si_sdr_2"]  # the estimate of source 2 has less noise
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary == evaluation.summary
    assert summary["real_time_factor"] == pytest.approx(2.0 / sum(row["seconds"] for row in rows))
    assert summary["weights"] == "abc"
    assert summary["sdri"]["mean"] == pytest.approx(np.mean([row["sdri"] for row in rows]))


@pytest.mark.medium
def test_a_killed_evaluation_is_resumed(test_set, swapping_scorer, tmp_path):
    def kill_in_third_batch(rows):
        if len(swapping_scorer.seen) > 4:
            raise KeyboardInterrupt

    undisturbed = evaluate_model(swapping_scorer, test_set, tmp_path / "a", identity=IDENTITY)
    undisturbed.partial.remove()
    swapping_scorer.seen.clear()
    with pytest.raises(KeyboardInterrupt):
        evaluate_model(swapping_scorer, test_set, tmp_path / "b", identity=IDENTITY, on_rows=kill_in_third_batch)
    partial = tmp_path / "b" / "metrics.csv.partial"
    num_kept = len(partial.read_text().splitlines()) - 2  # without the header and the truncated last row
    partial.write_bytes(partial.read_bytes()[:-7])

    swapping_scorer.seen.clear()
    notes, reported = [], []
    evaluation = evaluate_model(
        swapping_scorer, test_set, tmp_path / "b", identity=IDENTITY, note=notes.append, on_rows=reported.extend
    )
    evaluation.partial.remove()
    assert 0 < num_kept < 7
    assert evaluation.num_resumed == num_kept
    assert notes == [f"Resuming: {num_kept} of 7 utterances are already scored"]
    assert len(swapping_scorer.seen) == 7 - num_kept
    assert sorted(row["id"] for row in reported) == [row["id"] for row in undisturbed.rows]
    assert (tmp_path / "b" / "metrics.csv").read_bytes() == (tmp_path / "a" / "metrics.csv").read_bytes()
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["metrics.csv", "summary.json"]


@pytest.mark.medium
def test_an_evaluation_killed_after_scoring_is_finished_without_scoring_again(test_set, swapping_scorer, tmp_path):
    evaluation = evaluate_model(swapping_scorer, test_set, tmp_path, identity=IDENTITY)
    swapping_scorer.seen.clear()
    again = evaluate_model(swapping_scorer, test_set, tmp_path, identity=IDENTITY)
    assert swapping_scorer.seen == []
    assert again.rows == evaluation.rows
    assert again.summary["real_time_factor"] is None


def test_partial_rows_of_other_weights_are_neither_resumed_nor_overwritten(test_set, swapping_scorer, tmp_path):
    evaluate_model(swapping_scorer, test_set, tmp_path, identity=IDENTITY)
    partial = tmp_path / "metrics.csv.partial"
    written = partial.read_bytes()
    with pytest.raises(ValueError, match=r"partial: .* with different weights; choose another folder with --output"):
        evaluate_model(swapping_scorer, test_set, tmp_path, identity=IDENTITY | {"weights": "def"})
    assert partial.read_bytes() == written


@pytest.mark.medium
@pytest.mark.parametrize("name", ["metrics", "data"])
def test_results_of_other_data_or_metrics_are_not_overwritten(test_set, swapping_scorer, tmp_path, name):
    identity = {"weights": "abc", "metrics": ["sdr"], "data": {"path": "a"}}
    evaluate_model(swapping_scorer, test_set, tmp_path, identity=identity).partial.remove()
    written = (tmp_path / "metrics.csv").read_bytes()
    swapping_scorer.seen.clear()
    with pytest.raises(
        ValueError, match=rf"summary\.json: .* with different {name}; choose another folder with --output"
    ):
        evaluate_model(swapping_scorer, test_set, tmp_path, identity=identity | {name: ["other"]})
    assert (swapping_scorer.seen, (tmp_path / "metrics.csv").read_bytes()) == ([], written)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.csv", "summary.json"]
    evaluate_model(swapping_scorer, test_set, tmp_path, identity=identity | {"weights": "newer"})


def test_no_metric_is_defined_for_a_constant_reference(test_set, swapping_scorer, tmp_path, monkeypatch):
    read = test_set.mixtures.read

    def with_a_constant(index):
        mixture = read(index)
        mixture.sources[0] = 0.3
        return mixture

    monkeypatch.setattr(test_set.mixtures, "read", lambda index, *_: with_a_constant(index))
    row = evaluate_model(swapping_scorer, test_set, tmp_path, identity=IDENTITY).rows[0]
    assert row["silent"] == "1"
    assert row["si_sdr_1"] is None
    assert row["sdr_1"] is None
    assert isinstance(row["sdr_2"], float)


@pytest.mark.medium
def test_partial_rows_survive_a_kill_at_any_byte(test_set, swapping_scorer, tmp_path):
    rows = evaluate_model(swapping_scorer, test_set, tmp_path, identity=IDENTITY).rows
    (tmp_path / "metrics.csv.partial").unlink()
    PartialMetrics(tmp_path, IDENTITY).append(rows)
    path = tmp_path / "metrics.csv.partial"
    written = path.read_bytes()
    for size in range(len(written) + 1):
        path.write_bytes(written[:size])
        recovered = PartialMetrics(tmp_path, IDENTITY)
        assert recovered.rows == rows[: max(written[:size].count(b"\n") - 1, 0)]
        if size % 50 == 0 and len(recovered.rows) < len(rows):
            recovered.append(rows[len(recovered.rows) :])
            assert path.read_bytes() == written


def test_an_evaluation_fails_if_the_networks_output_is_nan(test_set, swapping_scorer, tmp_path):
    class Broken(type(swapping_scorer)):
        def __call__(self, batch):
            scored = super().__call__(batch)
            return ScoredBatch(Scores(np.nan * scored.scores[0], *scored.scores[1:]), *scored[1:])

    with pytest.raises(ValueError, match="mixture1: the network's output contains NaN"):
        evaluate_model(Broken(), test_set, tmp_path, identity=IDENTITY)
    assert not (tmp_path / "metrics.csv").exists()


@pytest.mark.medium
def test_the_report_has_figures_and_the_audio_files_match_the_scored_signals(test_set, swapping_scorer, tmp_path):
    facts = {"model": "a <model>", "step": 300, "parameters": 1234567, "date": "2026-11-28T12:00:00+00:00"}
    evaluation = evaluate_model(swapping_scorer, test_set, tmp_path, identity=IDENTITY, facts=facts)
    write_examples(swapping_scorer, test_set, evaluation, tmp_path, "a <model>", num_audio=2)
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/webp;base64,") == 4
    assert page.count("<audio ") == 3 * 5
    assert "<tr><td>Model<td>a &lt;model&gt;" in page
    assert "<tr><td>Training step<td>300" in page
    assert "<tr><td>Parameters<td>1,234,567" in page
    assert "<tr><td>Date<td>2026-11-28T12:00:00+00:00" in page
    assert "<h1>a &lt;model&gt;</h1>" in page
    ranked = sorted(evaluation.rows, key=lambda row: row["si_sdri"])
    for name, place in (("Best", -1), ("Median", 3), ("Worst", 0)):
        assert f"<h2>{name}: {ranked[place]['id']}, " in page
    assert len(list((tmp_path / "audio").iterdir())) == 2 * 5
    write_examples(swapping_scorer, test_set, evaluation, tmp_path / "untitled", None, num_audio=1)
    assert [path.name for path in (tmp_path / "untitled").iterdir()] == ["audio"]
    mixture = test_set.mixtures.read(1)
    for number, source in enumerate(mixture.sources, 1):
        estimate, rate = read_audio(tmp_path / "audio" / f"mixture1_estimate{number}.wav")
        assert (estimate.shape, rate) == ((1, 90), 100)
        assert np.corrcoef(estimate[0], source)[0, 1] > 0.9
        assert np.mean(np.square(estimate)) == pytest.approx(np.mean(np.square(source)), rel=1e-4)


@pytest.mark.medium
def test_a_report_of_long_mixtures_of_three_sources_is_below_2_mb(tmp_path, rng):
    sources_ct = (0.1 * rng.standard_normal((3, 40 * 8000))).astype(np.float32)  # noise has the largest figures
    examples = {name: (Mixture(name, sources_ct, 8000), sources_ct) for name in ("Best", "Median", "Worst")}
    rows = [utterance_row(name, 40.0, {"si_sdr": [1.0], "si_sdri": [1.0]}) for name in examples]
    write_report(tmp_path / "report.html", "title", rows, summarize(rows), examples)
    page = (tmp_path / "report.html").read_text()
    assert len(page) < 2e6
    assert page.count("<audio ") == 3 * 7
