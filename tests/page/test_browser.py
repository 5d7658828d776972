"""The page in headless Chromium: what it computes, what it requests, with and without a network.

Skipped without node, Chromium, or the packages of web/ (`make web`).
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
import threading
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mossformer_jax.audio import read_audio
from mossformer_jax.audio.resampling import resample
from mossformer_jax.cli import main
from mossformer_jax.cli.page import IsolatedHandler
from mossformer_jax.separation import Separator
from tests.conftest import REPOSITORY

pytest.importorskip("onnx")
WEB = REPOSITORY / "web"
MIXTURE = REPOSITORY / "examples" / "mixture.wav"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
BOUND = 1e-3
FORMATS = ["flac", "ogg", "mp3"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed"),
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
    pytest.mark.skipif(
        not (WEB / "node_modules" / "playwright-core").is_dir() or not (WEB / "page" / "runtime").is_dir(),
        reason="the packages of web/ are not installed; run: make web",
    ),
]


def write_recordings(folder: Path) -> dict[str, Path]:
    """Recordings in several formats, at another rate and in stereo, and files that are no recordings."""
    mixture = resample(read_audio(MIXTURE)[0].reshape(-1).astype(np.float32), 8000, 44100)
    stereo = np.stack([mixture, 0.5 * mixture], axis=1)
    recordings = {"mixture": MIXTURE}
    for name in FORMATS:
        recordings[name] = folder / f"recording.{name}"
        soundfile.write(recordings[name], stereo, 44100)
    recordings |= {"text": folder / "text.mp3", "empty": folder / "empty.wav", "long": folder / "long.wav"}
    recordings["text"].write_text("This is no recording. " * 100)
    recordings["empty"].write_bytes(b"")
    soundfile.write(recordings["long"], np.resize(read_audio(MIXTURE)[0], 20 * 8000), 8000)
    return recordings


@pytest.fixture(scope="module")
def visit(tmp_path_factory, fully_optimized) -> tuple[dict, Path, dict[str, Path]]:
    """What the browser reports for the scenarios of web/test/drive.mjs, its downloads, and the recordings."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "downloads").mkdir()
    assert main(["page", str(folder / "site")]) == 0
    recordings = write_recordings(folder)
    handler = partial(IsolatedHandler, directory=str(folder / "site"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        request = {
            "executable": CHROMIUM,
            "folder": str(folder / "site"),
            "isolated": f"http://127.0.0.1:{server.server_port}/",
            "recordings": {name: str(path) for name, path in recordings.items()},
            "output": str(folder / "downloads"),
        }
        (folder / "request.json").write_text(json.dumps(request))
        command = ["node", str(WEB / "test" / "drive.mjs"), str(folder / "request.json")]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=1200)
        server.shutdown()
    assert ran.returncode == 0, ran.stderr
    answers = json.loads(ran.stdout)
    for name, answer in answers.items():
        assert "failed" not in answer, f"{name}: {answer['failed']}"
        assert not [text for text in answer["errors"] if "favicon" not in text], name
        address = answer.get("address", request["isolated"]).rstrip("/")
        assert {origin for origin in answer["requests"] if origin.startswith("http")} == {address}, name
    return answers, folder / "downloads", recordings


@pytest.fixture(scope="module")
def separator(visit) -> Separator:
    return Separator.from_pretrained("default", shifts=1)  # as the page


def difference(downloads: Path, stem: str, expected_ct: np.ndarray) -> float:
    """Relative L2 error of the downloaded sources."""
    sources = np.stack([soundfile.read(downloads / f"{stem}_s{number}.wav")[0] for number in (1, 2)])
    assert sources.shape == expected_ct.shape
    return float(np.linalg.norm(sources - expected_ct) / np.linalg.norm(expected_ct))


@pytest.mark.parametrize("stem", ["isolated", "plain", "offline"])
def test_the_sources_are_those_of_the_command(visit, separator, stem):
    _, downloads, _ = visit
    assert difference(downloads, stem, separator(MIXTURE).sources) < BOUND


@pytest.mark.parametrize("name", FORMATS)
def test_other_formats_and_rates_are_separated_as_by_the_command(visit, separator, name):
    answers, downloads, recordings = visit
    assert answers["formats"]["results"][name]["rate"] == 44100
    expected = separator(recordings[name]).sources
    if name == "mp3":  # decoders differ in the samples that they drop at the start
        shown = answers["formats"]["results"][name]["duration"]
        assert shown == pytest.approx(expected.shape[1] / 44100, abs=0.1)
    else:
        assert difference(downloads, name, expected) < (BOUND if name == "flac" else 5 * BOUND)


def test_a_plain_host_takes_one_thread_and_an_isolated_page_several(visit):
    answers, _, _ = visit
    assert answers["offline"]["threads"] == 1
    assert answers["isolated"]["threads"] >= 1
    assert answers["offline"]["threadsAgain"] == answers["isolated"]["threads"]  # the service worker isolates it


def test_tracks_play_pause_and_seek(visit):
    playing = visit[0]["isolated"]["playing"]
    assert playing["before"] == 0
    assert playing["paused"] > 0.3
    assert playing["soloed"] == "true"
    assert playing["muted"] == "false"  # sources are muted at first; the click unmutes
    assert playing["home"] == 0


def test_the_keyboard_reaches_every_control_by_name(visit):
    stops = visit[0]["isolated"]["tabStops"]
    expected = ["Choose a recording", "Record", "Play", "Position", "Mute: Mixture", "Solo: Mixture"]
    expected += [f"{label}: Speaker {n}" for n in (1, 2) for label in ("Mute", "Solo", "Download WAV")]
    assert stops[: len(expected)] == expected


def test_files_that_are_no_recordings_get_a_message(visit):
    results = visit[0]["formats"]["results"]
    assert "cannot decode text.mp3" in results["text"]["error"]
    assert "empty.wav is empty" in results["empty"]["error"]


def test_a_separation_can_be_cancelled_and_the_next_one_works(visit):
    answer = visit[0]["cancel"]
    assert re.fullmatch(r"\d+ %(, about \d+ (s|min) left)?", answer["during"])
    assert answer["after"] == "Cancelled."
    assert answer["hidden"]
    assert answer["next"]["numSources"] == 2


def test_windows_of_a_long_recording_are_tied(visit):
    boundaries = visit[0]["formats"]["results"]["long"]["boundaries"]
    assert len(boundaries) == 3
    assert {boundary["evidence"] for boundary in boundaries} == {"overlap"}


def test_the_microphone_is_separated(visit):
    answer = visit[0]["microphone"]
    assert answer["error"] == ""
    assert json.loads(answer["result"])["duration"] > 0.5


def test_the_page_is_small(visit):
    site = visit[1].parent / "site"
    files = [path for path in site.rglob("*") if path.is_file()]
    assert sum(len(gzip.compress(path.read_bytes())) for path in files) <= 7.5e6
