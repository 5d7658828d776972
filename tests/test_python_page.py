"""docs/python.md: its notebook is up to date, and every block of code runs."""

from __future__ import annotations

import json
import sys
from types import ModuleType, SimpleNamespace

import pytest

from mossformer_jax import training
from mossformer_jax.training import load_config
from tests.conftest import REPOSITORY, load_tool
from tests.training.runs import TINY

NOTEBOOK = REPOSITORY / "examples" / "python.ipynb"


@pytest.fixture
def optuna(monkeypatch):
    """A stand-in for Optuna, whose study has one trial."""

    def optimize(objective, n_trials):
        study.best_params = {"lr": 5e-4}  # that of the training before, so that its programs are used again
        trial = SimpleNamespace(number=0, suggest_float=lambda name, low, high, log: study.best_params[name])
        study.values.append(objective(trial))

    study = SimpleNamespace(values=[], optimize=optimize)
    module = ModuleType("optuna")
    module.create_study = lambda direction: study
    monkeypatch.setitem(sys.modules, "optuna", module)
    return study


def test_every_name_for_training_can_be_imported():
    assert {name: getattr(training, name) for name in training.__all__}
    assert set(dir(training)) == set(training.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        training.no_such_name  # noqa: B018


def test_the_notebook_is_that_of_the_page():
    page = (REPOSITORY / "docs" / "python.md").read_text("utf-8")
    expected = load_tool("make_notebook").notebook(page)
    hint = "run: python tools/make_notebook.py docs/python.md examples/python.ipynb"
    assert json.loads(NOTEBOOK.read_text("utf-8")) == expected, hint


@pytest.mark.slow
def test_every_cell_of_the_notebook_runs(tmp_path, monkeypatch, optuna):
    # Trainings of the config `demo` take minutes; this one has the same parts and takes seconds.
    monkeypatch.setattr(
        "mossformer_jax.training.configuration.load_config",
        lambda name, overrides: load_config(str(TINY), [*overrides, "--config.train.steps=4"]),
    )
    (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
    monkeypatch.chdir(tmp_path)
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    names: dict = {"__name__": "__main__"}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{NOTEBOOK.name}:{cell['id']}", "exec"), names)

    assert names["found"].blocks.shape[0] == names["model"].config.num_blocks
    assert names["outcome"].step == 4
    assert optuna.values == [names["outcome"].best_si_sdri_db]
    assert (tmp_path / "trained" / "model.safetensors").exists()
