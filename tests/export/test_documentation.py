"""The programs of docs/deployment.md give what the package gives."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mossformer_jax.audio import read_audio
from mossformer_jax.cli import main
from mossformer_jax.separation import Separator
from tests.conftest import REPOSITORY

onnxruntime = pytest.importorskip("onnxruntime")


# Debian's libonnxruntime-dev installs the headers here.
HEADERS = Path(os.environ.get("ONNXRUNTIME_INCLUDE", "/usr/include/onnxruntime"))
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(tmp_path_factory, fully_optimized) -> Path:
    """The default model, as an ONNX graph."""
    path = tmp_path_factory.mktemp("exported") / "separator.onnx"
    assert main(["export", "default", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def expected(fully_optimized) -> np.ndarray:
    """The sources (c, t) of the shipped mixture."""
    return Separator.from_pretrained("default")(REPOSITORY / "examples" / "mixture.wav").sources


def sources(folder: Path) -> np.ndarray:
    return np.stack([read_audio(folder / f"source{number}.wav")[0].reshape(-1) for number in (1, 2)])


def test_the_script_for_onnxruntime_separates_as_the_command_does(tmp_path, exported, expected):
    page = (REPOSITORY / "docs" / "deployment.md").read_text()
    (script,) = [code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "onnxruntime" in code]
    (tmp_path / exported.name).symlink_to(exported)
    shutil.copytree(REPOSITORY / "examples", tmp_path / "examples")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ran = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    np.testing.assert_allclose(sources(tmp_path), expected, rtol=0, atol=1.01 / 2**15)


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
@pytest.mark.skipif(
    not (HEADERS / "onnxruntime_cxx_api.h").exists(),
    reason=f"no onnxruntime_cxx_api.h in {HEADERS} (set ONNXRUNTIME_INCLUDE to the folder that holds it)",
)
def test_the_program_in_cpp_separates_as_the_command_does(tmp_path, exported, expected):
    """It is linked with the library of the Python package."""
    libraries = Path(onnxruntime.__file__).parent / "capi"
    (library,) = libraries.glob("libonnxruntime.so.*")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):  # those of the linker and of the loader
        (tmp_path / name).symlink_to(library)
    program = tmp_path / "separate_onnx"
    options = ["-std=c++17", "-Wall", "-Wextra", "-I", HEADERS, "-L", tmp_path, f"-Wl,-rpath,{tmp_path}"]
    source = REPOSITORY / "examples" / "separate_onnx.cpp"
    compiled = subprocess.run(
        ["g++", *options, source, "-o", program, "-lonnxruntime", "-lsndfile"], capture_output=True, text=True
    )
    assert compiled.returncode == 0, compiled.stderr
    mixture = REPOSITORY / "examples" / "mixture.wav"
    ran = subprocess.run([program, exported, mixture], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    np.testing.assert_allclose(sources(tmp_path), expected, rtol=0, atol=1e-5)

    ran = subprocess.run([program, exported, "missing.wav"], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 1
    assert "missing.wav" in ran.stderr
