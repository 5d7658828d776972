"""The example notebook runs from top to bottom and reproduces the score in the README."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tests.test_default_model import MARGIN, RECORDED_ON_THE_EXAMPLE

NOTEBOOK = REPOSITORY / "examples" / "quickstart.ipynb"


@pytest.fixture
def code_cells() -> list[dict]:
    return [cell for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]


@pytest.mark.slow
@pytest.mark.usefixtures("fully_optimized")
def test_the_notebook_runs_and_gives_the_score_in_the_readme(code_cells, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("MPLBACKEND", "agg")
    names: dict = {"__name__": "__main__"}
    for cell in code_cells:
        exec(compile("".join(cell["source"]), f"{NOTEBOOK.name}:{cell['id']}", "exec"), names)

    assert np.mean(names["si_sdri"]) > RECORDED_ON_THE_EXAMPLE - MARGIN
    shown = [axes.get_title(loc="left") for axes in names["figure"].axes]
    assert [title for title in shown if title] == names["titles"]


def test_the_notebook_is_stored_without_outputs(code_cells):
    assert code_cells
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code_cells)
