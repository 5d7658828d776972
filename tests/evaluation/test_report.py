"""metrics.csv and summary.json."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from mossformer_jax.evaluation.report import (
    bootstrap_interval,
    format_rows,
    read_metrics,
    summarize,
    utterance_row,
    write_metrics,
    write_summary,
)


def row(id, improvements, **options):
    figures = {"si_sdr": [value + 1 for value in improvements], "si_sdri": improvements}
    return utterance_row(id, 4.0, figures, **options)


@pytest.fixture
def rows():
    return [
        row("a, with a comma", [10.0, 12.0], speakers=["61", "908"], genders=["M", "F"], silent=[False, False]),
        row("b", [-1.0, -3.0], speakers=["61", "237"], genders=["M", "M"], silent=[False, False]),
        row("c", [math.nan, 8.0], silent=[True, False]),
    ]


def test_rows_are_read_back_as_written(rows, tmp_path):
    assert rows[0]["si_sdri"] == 11.0
    assert rows[0]["genders"] == "FM"
    assert rows[2] | {"si_sdri": None, "si_sdri_1": None, "si_sdri_2": 8.0, "silent": "1"} == rows[2]
    write_metrics(tmp_path / "metrics.csv", rows)
    assert read_metrics(tmp_path / "metrics.csv") == rows
    assert (tmp_path / "metrics.csv").read_text() == format_rows(rows, list(rows[0]), header=True)


def test_silent_references_are_counted_and_excluded_from_averages(rows, tmp_path):
    summary = summarize(rows, real_time_factor=0.5)
    assert summary["count"] == 3
    assert summary["silent_references"] == {"count": 1, "ids": ["c"]}
    assert summary["real_time_factor"] == 0.5
    section = summary["si_sdri"]
    assert section["count"] == 2
    assert (section["mean"], section["median"], section["std"]) == (4.5, 4.5, 6.5)
    assert section["worst"] == ["b", "a, with a comma"]
    assert summarize([*rows, row("d", [1.0, 1.0])])["si_sdri"]["share_below_0_db"] == pytest.approx(1 / 3)
    assert {pair: part["mean"] for pair, part in summary["si_sdri_by_genders"].items()} == {"FM": 11.0, "MM": -2.0}
    write_summary(tmp_path / "summary.json", summary)
    assert json.loads((tmp_path / "summary.json").read_text()) == summary


def test_a_metric_that_is_defined_for_no_utterance_has_only_a_count(rows):
    assert summarize(rows[2:])["si_sdri"] == {"count": 0}


@pytest.mark.medium
def test_the_95_percent_interval_covers_the_true_mean_about_95_percent_of_the_time():
    rng = np.random.default_rng(1)
    intervals = [bootstrap_interval(rng.exponential(size=60)) for _ in range(100)]
    # 95 are expected, with a standard deviation of 2, and a few less for such a skewed distribution.
    assert 85 <= sum(low <= 1.0 <= high for low, high in intervals) < 100


def test_nan_in_a_table_is_read_as_undefined(tmp_path):
    (tmp_path / "metrics.csv").write_text("id,si_sdr\na,nan\nb,\nc,4\n")
    assert [row["si_sdr"] for row in read_metrics(tmp_path / "metrics.csv")] == [None, None, 4.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,seconds\na,4\n", "required are id and at least one of si_sdr, "),
        ("id,si_sdr\na,4\na,5\n", "line 3: the id 'a' occurs twice"),
        ("id,si_sdr\na,much\n", "line 2: could not convert string to float: 'much'"),
        ("id,si_sdr\na,inf\n", "line 2: inf is not finite"),
        ("id,si_sdr\na\n", "line 2: has 1 cells for 2 columns"),
    ],
)
def test_errors_in_a_table_of_metrics_name_the_file_and_line(tmp_path, text, message):
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(ValueError, match=f"metrics.csv.*{message}"):
        read_metrics(tmp_path / "metrics.csv")
