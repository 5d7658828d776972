"""The contracts on imports in pyproject.toml: the package keeps them, and an import against them fails `make lint`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
LAYERS = "A package imports only those below it; packages on one line are independent of each other BROKEN"
SEPARATION = "Separation does not import data, figures or scoring BROKEN"
CYCLES = "No import cycles BROKEN"


@pytest.fixture
def copy(tmp_path):
    """A copy of the package and of its contracts."""
    shutil.copytree(
        REPOSITORY / "mossformer_jax",
        tmp_path / "mossformer_jax",
        ignore=shutil.ignore_patterns("assets", "__pycache__"),
    )
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    return tmp_path


def lint_imports(folder: Path) -> tuple[int, str]:
    """The exit status, and the output on one line."""
    script = Path(sysconfig.get_path("scripts")) / "lint-imports"
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    ran = subprocess.run([script, "--no-cache"], cwd=folder, env=environment, capture_output=True, text=True)
    return ran.returncode, " ".join((ran.stdout + ran.stderr).split())


def test_the_package_keeps_its_contracts(copy):
    status, printed = lint_imports(copy)
    assert status == 0, printed
    assert "3 kept, 0 broken" in printed


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        pytest.param("model/norms.py", "from mossformer_jax.weights.folders import BEST", LAYERS, id="upward"),
        pytest.param(
            "weights/hub.py", "def late():\n    import mossformer_jax.training.step", LAYERS, id="in_function"
        ),
        pytest.param("separation/levels.py", "import mossformer_jax.evaluation.report", LAYERS, id="sideways"),
        pytest.param("new_package/__init__.py", "", "must be declared as a layer", id="package_without_a_layer"),
        pytest.param("separation/files.py", "import mossformer_jax.data.records", SEPARATION, id="separation"),
        pytest.param("weights/folders.py", "import mossformer_jax.weights.store", CYCLES, id="cycle"),
    ],
)
def test_an_import_against_a_contract_fails(copy, file, line, message):
    path = copy / "mossformer_jax" / file
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as source:
        source.write(f"\n{line}\n")
    status, printed = lint_imports(copy)
    assert status == 1, printed
    assert message in printed
