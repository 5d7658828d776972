"""The records of a run as they are read back."""

from __future__ import annotations

import json

import pytest

from mossformer_jax.training.records import read_metrics


def test_a_run_without_records_has_none(tmp_path):
    assert read_metrics(tmp_path) == []


def test_an_incomplete_last_line_is_skipped(tmp_path):
    whole = [{"kind": "train", "step": step, "loss": loss} for step, loss in ((50, 1.0), (100, None))]
    lines = "".join(json.dumps(record) + "\n" for record in whole)
    (tmp_path / "metrics.jsonl").write_text(lines + '{"kind": "train", "st')
    assert read_metrics(tmp_path) == whole


@pytest.mark.parametrize("line", ["\0\0\0", "3", '{"kind": "train"}', '{"kind": "test", "step": 2}', '{"step": 2}'])
def test_a_damaged_line_is_named(tmp_path, line):
    records = ['{"kind": "train", "step": 1}', line, '{"kind": "train", "step": 2}\n']
    (tmp_path / "metrics.jsonl").write_text("\n".join(records))
    with pytest.raises(ValueError, match=r"metrics\.jsonl: line 2 is not a record"):
        read_metrics(tmp_path)
