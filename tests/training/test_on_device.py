"""Training with mixtures that are drawn on the device."""

from __future__ import annotations

import pytest

from mossformer_jax.training.configuration import load_config
from mossformer_jax.training.loop import Training
from tests.training import runs

pytestmark = pytest.mark.slow

STEPS = 8
FLAGS = ["--config.data.on_device=true", f"--config.train.steps={STEPS}"]


def train(workdir, monkeypatch, stop_after: int = 0) -> Training:
    training = Training(load_config(str(runs.TINY), FLAGS), workdir)
    monkeypatch.setattr(training, "_is_asked_to_stop", lambda request: training.step == stop_after)
    training.run()
    return training


def test_an_interrupted_run_gives_the_same_weights_as_an_undisturbed_one(tmp_path, monkeypatch):
    undisturbed, interrupted = tmp_path / "undisturbed", tmp_path / "interrupted"
    assert train(undisturbed, monkeypatch).step == STEPS
    assert "GB on each device" in (undisturbed / "log.txt").read_text()
    assert train(interrupted, monkeypatch, stop_after=5).step == 5
    assert train(interrupted, monkeypatch).step == STEPS
    assert runs.written_models(interrupted) == runs.written_models(undisturbed)
    assert runs.records(interrupted) == runs.records(undisturbed)
    runs.check_same_checkpoint(interrupted, undisturbed, STEPS)
    assert runs.notes(interrupted, STEPS)["batches"] == runs.notes(undisturbed, STEPS)["batches"]
