"""`mossformer-jax app` with a real Gradio, in headless Chromium. Skipped where one of them is not installed."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager

import numpy as np
import pytest

from mossformer_jax.audio import read_audio
from mossformer_jax.cli import main
from mossformer_jax.separation import Separator
from tests.conftest import PYTHONPATH, REPOSITORY

WEB = REPOSITORY / "web"
MIXTURE = REPOSITORY / "examples" / "mixture.wav"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_gradio = pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="gradio is not installed")
needs_browser = pytest.mark.skipif(
    CHROMIUM is None or not (WEB / "node_modules" / "playwright-core").is_dir(),
    reason="Chromium or the packages of web/ (make web) are not installed",
)


@contextmanager
def served(folder):
    """The address of a running `mossformer-jax app`. Its output is in `folder/log`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from mossformer_jax.cli import main; main()", "app", "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "PYTHONUNBUFFERED": "1", "JAX_PLATFORMS": "cpu"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        try:
            line = process.stdout.readline()
            assert line == f"serving  http://127.0.0.1:{port}/ (stop with Ctrl-C)\n", (folder / "log").read_text()
            yield f"http://127.0.0.1:{port}/"
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=30)
            except subprocess.TimeoutExpired:  # a test run in the background ignores SIGINT, and so does its child
                process.kill()
                process.communicate()


def test_a_missing_gradio_is_named_with_its_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    before = tempfile.tempdir
    assert main(["app"]) == 1
    assert tempfile.tempdir == before
    assert "pip install 'mossformer-jax[demo]'" in capsys.readouterr().err


@pytest.mark.slow
@needs_gradio
@needs_browser
def test_the_app_separates_in_the_browser(tmp_path, fully_optimized):
    broken = tmp_path / "broken.mp3"
    broken.write_text("This is no recording. " * 100)
    with served(tmp_path) as address:
        request = {
            "executable": CHROMIUM,
            "address": address,
            "recording": str(MIXTURE),
            "broken": str(broken),
            "output": str(tmp_path),
        }
        (tmp_path / "request.json").write_text(json.dumps(request))
        command = ["node", str(WEB / "test" / "app.mjs"), str(tmp_path / "request.json")]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr
    seen = json.loads(ran.stdout)
    assert {origin for origin in seen["requests"] if origin.startswith("http")} == {address.rstrip("/")}
    assert "no recording: upload or record one first" in seen["withoutRecording"]
    assert "broken.mp3" in seen["withText"]
    assert str(tmp_path) not in seen["withText"]
    assert {"boundaries", "warnings", "sample_rate"} <= set(re.findall(r"\w+", seen["text"]))
    sources = np.stack([read_audio(tmp_path / f"source{n}.wav")[0].reshape(-1) for n in (1, 2)])
    np.testing.assert_allclose(sources, Separator.from_pretrained("default")(MIXTURE).sources, atol=1e-3)
    assert "Traceback" not in (tmp_path / "log").read_text()
