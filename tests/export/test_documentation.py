"""The script in docs/deployment.md gives what the package gives."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from mossformer_jax.audio import read_audio
from mossformer_jax.cli import main
from mossformer_jax.separation import Separator
from tests.conftest import REPOSITORY

pytest.importorskip("onnxruntime")


@pytest.mark.slow
def test_the_script_for_onnxruntime_separates_as_the_command_does(tmp_path, fully_optimized):
    page = (REPOSITORY / "docs" / "deployment.md").read_text()
    (script,) = [code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "onnxruntime" in code]
    assert main(["export", "default", str(tmp_path / "separator.onnx")]) == 0
    shutil.copytree(REPOSITORY / "examples", tmp_path / "examples")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ran = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    sources = np.stack([read_audio(tmp_path / f"source{n}.wav")[0].reshape(-1) for n in (1, 2)])
    expected = Separator.from_pretrained("default")(REPOSITORY / "examples" / "mixture.wav").sources
    np.testing.assert_allclose(sources, expected, rtol=0, atol=1.01 / 2**15)
