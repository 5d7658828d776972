"""Loggers beside TensorBoard (`config.train.loggers`): Weights & Biases, and MLflow.

Each imports its package only when it is used. Where they send a run is set as in their own documentation:
WANDB_PROJECT, WANDB_MODE=offline, MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME.
"""

from __future__ import annotations

import importlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from mossformer_jax.atomic import write_atomically
from mossformer_jax.training.overrides import flatten
from mossformer_jax.training.tensorboard import Example

# Ids of the run in each service, so that a resumed training continues there.
_IDS_FILE = "loggers.json"


@runtime_checkable
class Logger(Protocol):
    """Receives the figures and the validation examples of a run."""

    def scalars(self, step: int, values: Mapping[str, float | np.number]) -> None:
        """Logs figures, such as train/loss, of a step."""

    def examples(self, step: int, examples: Sequence[Example]) -> None:
        """Logs validation mixtures with their separation."""

    def close(self) -> None:
        """Ends the logging of this process."""


class WandB:
    """Weights & Biases: the config, the figures, and the examples as audio."""

    def __init__(self, workdir: Path, config: Mapping[str, Any]):
        self._wandb = _package("wandb")
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", "mossformer-jax"),
            name=workdir.name,
            id=_known_id(workdir, "wandb"),
            resume="allow",
            dir=str(workdir),
            config=dict(config),
            settings=self._wandb.Settings(console="off"),
        )
        _keep_id(workdir, "wandb", self._run.id)
        # Steps that a resumed run repeats are accepted only in a metric of their own.
        self._run.define_metric("*", step_metric="step")

    def scalars(self, step: int, values: Mapping[str, float | np.number]) -> None:
        """Logs the figures that are finite."""
        self._run.log({"step": step, **_finite(values)})

    def examples(self, step: int, examples: Sequence[Example]) -> None:
        """Logs the audio of mixtures, estimates and references."""
        for example in examples:
            sounds = {
                f"{example.name}/{name}": self._wandb.Audio(signal_t, sample_rate=example.sample_rate)
                for name, signal_t in example.signals().items()
            }
            self._run.log({"step": step, **sounds})

    def close(self) -> None:
        """Waits until everything is sent, or on disk in offline mode."""
        self._run.finish()


class MLflow:
    """MLflow: the config as parameters, and the figures."""

    def __init__(self, workdir: Path, config: Mapping[str, Any]):
        self._mlflow = _package("mlflow")
        known = _known_id(workdir, "mlflow")
        nested = self._mlflow.active_run() is not None  # for example in a sweep that has a run of its own
        run = self._mlflow.start_run(run_id=known, run_name=None if known else workdir.name, nested=nested)
        _keep_id(workdir, "mlflow", run.info.run_id)
        if known is None:  # MLflow does not let parameters change
            self._mlflow.log_params(dict(flatten(config)))

    def scalars(self, step: int, values: Mapping[str, float | np.number]) -> None:
        """Logs the figures that are finite."""
        self._mlflow.log_metrics(_finite(values), step=step)

    def examples(self, step: int, examples: Sequence[Example]) -> None:
        """Does nothing: MLflow cannot play audio."""

    def close(self) -> None:
        """Ends the run."""
        self._mlflow.end_run()


_LOGGERS: dict[str, Callable[[Path, Mapping[str, Any]], Logger]] = {"wandb": WandB, "mlflow": MLflow}


def check_installed(names: Sequence[str]) -> None:
    """Imports the packages of loggers.

    Raises:
        ValueError: one of them is not installed; the message has the command that installs it.
    """
    for name in names:
        _package(name)


def open_logger(name: str, workdir: Path, config: Mapping[str, Any]) -> Logger:
    """Begins or continues a run in a service.

    Args:
        name: a name of `recipe.LOGGERS`.
        workdir: the run's folder, which keeps the id of the run in the service.
        config: the config of the run, nested.

    Raises:
        ValueError: the package is not installed, or the service refuses, for example without a login.
    """
    try:
        return _LOGGERS[name](workdir, config)
    except Exception as error:  # every service has exceptions of its own
        reason = " ".join(str(error).split())
        raise ValueError(f"config.train.loggers={name} cannot be used: {reason} ({type(error).__name__})") from error


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"config.train.loggers={name} needs a package that is not installed ({error}); "
            f"run: pip install 'mossformer-jax[{name}]'"
        ) from error


def _finite(values: Mapping[str, float | np.number]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}


def _ids(workdir: Path) -> dict[str, str]:
    path = workdir / _IDS_FILE
    return json.loads(path.read_bytes()) if path.exists() else {}


def _known_id(workdir: Path, name: str) -> str | None:
    return _ids(workdir).get(name)


def _keep_id(workdir: Path, name: str, run_id: str) -> None:
    write_atomically(workdir / _IDS_FILE, (json.dumps({**_ids(workdir), name: run_id}, indent=2) + "\n").encode())
