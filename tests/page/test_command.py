"""`mossformer-jax page`: what it writes, and its errors."""

from __future__ import annotations

import dataclasses
import json
import re
import threading
import urllib.request
from functools import partial
from http.server import ThreadingHTTPServer

import numpy as np
import pytest

pytest.importorskip("onnx")

from mossformer_jax.cli import main
from mossformer_jax.cli.page import IsolatedHandler
from mossformer_jax.export.onnx_model import build_model, fits_float16
from mossformer_jax.export.page import RUNTIME_FILES, RUNTIME_VERSION, page_sources
from mossformer_jax.weights import load_parameters, save_model
from tests.conftest import REPOSITORY


@pytest.fixture
def runtime(tmp_path):
    """Stand-ins for the files of onnxruntime-web."""
    folder = tmp_path / "dist"
    folder.mkdir()
    for name in RUNTIME_FILES:
        (folder / name).write_text(name)
    return folder


@pytest.fixture
def command(tmp_path, runtime, tiny_model_folder):
    return ["page", str(tmp_path / "site"), "--model", str(tiny_model_folder), "--runtime", str(runtime)]


def test_the_service_worker_lists_every_file_and_changes_with_the_model(tmp_path, command, capsys):
    assert main(command) == 0
    assert "MB compressed" in capsys.readouterr().out
    site = tmp_path / "site"
    worker = (site / "sw.js").read_text()
    listed = json.loads(re.search(r"const FILES = (\[.*\]);", worker)[1])
    written = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    assert set(listed) == {"./", *written} - {"sw.js"}
    assert json.loads((site / "model.json").read_text())["numSources"] == 2
    assert main([*command, "--overwrite", "--float16"]) == 0
    assert (site / "sw.js").read_text() != worker


def test_the_page_has_one_shift_unless_another_number_is_given(tmp_path, command, tiny_model_folder):
    config, parameters = load_parameters(tiny_model_folder)
    save_model(tmp_path / "averaged", dataclasses.replace(config, shifts=4), parameters)
    for shifts, flags in ((1, []), (2, ["--shifts", "2"])):
        assert main([*command, "--model", str(tmp_path / "averaged"), "--overwrite", *flags]) == 0
        graph = build_model(config.with_shifts(shifts), parameters, float16=fits_float16(parameters))
        assert (tmp_path / "site" / "model.onnx").read_bytes() == graph.SerializeToString()


def test_nothing_is_replaced_without_overwrite(command, capsys):
    assert main(command) == 0
    assert main(command) == 1
    assert "is not empty; name another folder, or add --overwrite" in capsys.readouterr().err


def test_a_missing_runtime_is_an_error_with_the_command_that_installs_it(tmp_path, command, capsys):
    assert main([*command[:-1], str(tmp_path)]) == 1
    assert f"npm install onnxruntime-web@{RUNTIME_VERSION}" in capsys.readouterr().err
    package = json.loads((REPOSITORY / "web" / "package.json").read_text())
    assert package["dependencies"]["onnxruntime-web"] == RUNTIME_VERSION


def test_the_page_names_no_other_host():
    for path in page_sources().iterdir():
        if path.suffix in {".html", ".js", ".css"}:
            assert not re.search(r"https?://|//[a-z]+\.[a-z]", path.read_text()), path


def test_weights_that_fit_float16_are_recognised():
    exact = {"kernel": np.float32([0.5, 1e-3]).astype(np.float16).astype(np.float32)}
    assert fits_float16(exact | {"rotary.frequencies": np.float32([0.1])})
    assert not fits_float16({"kernel": np.float32([0.1])})
    assert not fits_float16({"kernel": np.float32([1e6])})


def test_the_server_allows_threads(command, tmp_path):
    assert main(command) == 0
    handler = partial(IsolatedHandler, directory=str(tmp_path / "site"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/main.js") as response:
            assert response.headers["Content-Type"] == "text/javascript"
            assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert response.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        server.shutdown()
