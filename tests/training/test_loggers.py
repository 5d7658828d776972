"""Loggers beside TensorBoard, with stand-ins for their packages."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from functools import partial
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from mossformer_jax.training import journal as journal_module
from mossformer_jax.training.configuration import load_config, resolve
from mossformer_jax.training.journal import Example, Journal, Progress
from mossformer_jax.training.loggers import check_installed, open_logger
from mossformer_jax.training.recipe import Recipe
from tests.training.runs import TINY

RECORD = Progress(50, 0.5, -3.21, 1.5e-4, 2.5, 3.4, 0.02, 1)
CONFIG = {"model": {"num_blocks": 2}, "train": {"lr": 0.1, "loggers": ["wandb"]}}


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch):
    monkeypatch.setattr(journal_module, "plot_training", lambda *_: None)


@pytest.fixture
def wandb(monkeypatch) -> SimpleNamespace:
    """What a stand-in for wandb has received."""
    received = SimpleNamespace(init=[], logged=[], finished=0)

    def finish():
        received.finished += 1

    def init(**options):
        received.init.append(options)
        return SimpleNamespace(
            id=options["id"] or "abc", define_metric=lambda *_, **__: None, log=received.logged.append, finish=finish
        )

    module = ModuleType("wandb")
    module.init, module.Settings = init, lambda **options: options
    module.Audio = lambda signal, sample_rate: (len(signal), sample_rate)
    monkeypatch.setitem(sys.modules, "wandb", module)
    return received


@pytest.fixture
def mlflow(monkeypatch) -> SimpleNamespace:
    """What a stand-in for mlflow has received."""
    received = SimpleNamespace(runs=[], parameters=[], logged=[], ended=0)

    def start_run(**options):
        received.runs.append(options)
        return SimpleNamespace(info=SimpleNamespace(run_id=options["run_id"] or "xyz"))

    def end_run():
        received.ended += 1

    module = ModuleType("mlflow")
    module.start_run, module.end_run, module.active_run = start_run, end_run, lambda: None
    module.log_params = received.parameters.append
    module.log_metrics = lambda values, step: received.logged.append((step, values))
    monkeypatch.setitem(sys.modules, "mlflow", module)
    return received


def journal(workdir, name: str) -> Journal:
    return Journal(workdir, total_steps=100, loggers={name: partial(open_logger, name, workdir, CONFIG)})


@pytest.mark.medium
def test_wandb_gets_the_config_the_figures_and_the_audio_and_a_resume_continues_its_run(tmp_path, wandb, rng):
    signals_ct = rng.standard_normal((5, 800)).astype(np.float32)
    example = Example("m", 8000, signals_ct[0], signals_ct[1:3], signals_ct[3:])
    with journal(tmp_path, "wandb") as first:
        first.progress(dataclasses.replace(RECORD, loss=math.nan))
        first.validated(50, {"si_sdri_db": np.float32(4.5)}, best=True, examples=[example])
    with journal(tmp_path, "wandb"):
        pass
    assert [options["id"] for options in wandb.init] == [None, "abc"]
    options = wandb.init[0]
    assert (options["name"], options["config"], options["dir"]) == (tmp_path.name, CONFIG, str(tmp_path))
    progress, validation, sounds = wandb.logged
    assert (progress["step"], progress["train/learning_rate"]) == (50, 1.5e-4)
    assert "train/loss" not in progress  # it is not finite
    assert validation == {"step": 50, "validation/si_sdri_db": 4.5}
    assert sounds["m/estimate 2"] == (800, 8000)
    assert len(sounds) == 6
    assert wandb.finished == 2


def test_mlflow_gets_the_config_once_and_the_figures(tmp_path, mlflow):
    with journal(tmp_path, "mlflow") as first:
        first.progress(RECORD)
    with journal(tmp_path, "mlflow"):
        pass
    assert [options["run_id"] for options in mlflow.runs] == [None, "xyz"]
    assert mlflow.parameters == [{"model.num_blocks": 2, "train.lr": 0.1, "train.loggers": ["wandb"]}]
    ((step, values),) = mlflow.logged
    assert (step, values["train/loss"]) == (50, -3.21)
    assert mlflow.ended == 2
    assert json.loads((tmp_path / "loggers.json").read_text()) == {"mlflow": "xyz"}


def test_a_service_that_fails_does_not_stop_the_training(tmp_path, mlflow, monkeypatch):
    def fail(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr(sys.modules["mlflow"], "log_metrics", fail)
    with journal(tmp_path, "mlflow") as first:
        first.progress(RECORD)
    warning = "warning: mlflow: the figures of step 50 could not be logged: ConnectionError: no network"
    assert warning in (tmp_path / "log.txt").read_text()


def test_a_service_that_refuses_the_run_is_a_one_line_error(tmp_path, mlflow, monkeypatch):
    def fail(**_):
        raise PermissionError("no\nlogin")

    monkeypatch.setattr(sys.modules["mlflow"], "start_run", fail)
    with pytest.raises(ValueError, match=r"^config.train.loggers=mlflow cannot be used: no login \(PermissionError\)$"):
        journal(tmp_path, "mlflow")


def test_loggers_are_named_on_the_command_line(monkeypatch):
    _, recipe, _ = resolve(load_config(str(TINY), ["--config.train.loggers=wandb,mlflow"]))
    assert recipe.loggers == ("wandb", "mlflow")
    with pytest.raises(ValueError, match=r"loggers=\('comet',\) is not allowed: must be names from wandb, mlflow"):
        Recipe(loggers=("comet",))
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match=r"run: pip install 'mossformer-jax\[wandb\]'"):
        check_installed(recipe.loggers)
