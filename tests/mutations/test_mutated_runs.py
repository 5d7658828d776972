"""Mutated config fields and damaged files of a run end in one line, or the run works.

MUTATIONS and FIRST_SEED are those of test_mutations.py.
"""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mossformer_jax.training import loop
from mossformer_jax.training.configuration import load_config
from mossformer_jax.training.overrides import flatten
from mossformer_jax.weights import load_parameters
from tests.mutations.inputs import mutated, mutated_text
from tests.mutations.test_mutations import bounded, seeds
from tests.training.runs import TINY

pytestmark = pytest.mark.own_checks

LENGTH = ["--config.train.validate_every=100", "--config.train.checkpoint_every=2", "--config.data.num_workers=0"]
VALUES = (
    "", "None", "0", "-1", "1", "2", "0.5", "-0.0", "1e308", "-1e308", "1e-320", "nan", "inf", "-inf", "1000000000",
    str(10**30), "True", "[]", "()", "{}", "[1]", "'a'", "'..'", "'\\0'", "a", "/", "~", "adam", "demo", "9" * 5000,
)  # fmt: skip


@jax.jit
def counting_step(state, batch):
    """Replaces the training step, so that no network is compiled."""
    return state._replace(step=state.step + 1), jnp.ones(6).at[0].set(batch.mixture.mean())


def train(workdir: Path, steps: int, *overrides: str) -> None:
    loop.Training(load_config(str(TINY), [*LENGTH, f"--config.train.steps={steps}", *overrides]), workdir).run()


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run with checkpoints of two steps, stopped before its first validation."""
    workdir = tmp_path_factory.mktemp("original")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Training, "_validation_is_due", lambda self: False)
        patch.setattr(loop, "make_train_step", lambda *_: counting_step)
        train(workdir, 4)
    assert (workdir / "last" / "model.safetensors").is_file()
    return workdir


@pytest.mark.slow
def test_damaged_runs(run, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "make_train_step", lambda *_: counting_step)
    monkeypatch.setattr(loop.Training, "_validation_is_due", lambda self: False)
    files = [path.relative_to(run) for path in sorted(run.rglob("*")) if path.is_file() and path.stat().st_size]
    text = {".json", ".jsonl", ".txt"}
    for seed in seeds()[::30]:
        rng = np.random.default_rng((6, seed))
        workdir = tmp_path / f"run{seed}"
        shutil.copytree(run, workdir)
        path = workdir / files[seed % len(files)]
        data = path.read_bytes()
        if path.suffix in text and rng.random() < 0.5:
            path.write_bytes(mutated_text(data.decode(), rng))
        else:
            path.write_bytes(mutated(data, rng))
        with bounded(seed, str(workdir)):
            load_parameters(workdir / "last")
        with bounded(seed, str(workdir)):
            train(workdir, 6)
            assert (workdir / "checkpoints" / "6").is_dir(), f"seed {seed}"
        shutil.rmtree(workdir)


@pytest.mark.medium
def test_odd_config_fields(tmp_path, monkeypatch):
    fields = [name for name, _ in flatten(load_config(str(TINY), LENGTH).to_dict())]
    pairs = list(itertools.product(fields, VALUES))
    np.random.default_rng(7).shuffle(pairs)
    monkeypatch.chdir(tmp_path)
    # Allowed sizes can still be too large for this machine.
    monkeypatch.setattr(loop.Training, "_begin_or_resume", lambda self: None)
    for seed in seeds():
        field, value = pairs[seed % len(pairs)]
        overrides = [*LENGTH, "--config.train.steps=2", f"--config.{field}={value}"]
        with bounded(seed, field.rpartition(".")[2], breaks=""):
            training = loop.Training(load_config(str(TINY), overrides), tmp_path / f"run{seed}")
            training._batches.close()
            training._unlock()
        shutil.rmtree(tmp_path / f"run{seed}", ignore_errors=True)
