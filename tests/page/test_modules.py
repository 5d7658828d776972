"""The page's JavaScript computes what the package computes: resampling, levels, speaker ties, windows, WAV files.

Run by node, which is not a dependency: without it, these tests are skipped.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time

import numpy as np
import pytest
import soundfile

from mossformer_jax.audio import read_audio
from mossformer_jax.audio.resampling import resample
from mossformer_jax.model.levels import input_gain
from mossformer_jax.separation.assignment import best_order
from mossformer_jax.separation.resampled import BLOCK, ResampledRecording
from mossformer_jax.separation.segments import crossfade
from mossformer_jax.separation.tying import SpeakerTies
from tests.conftest import REPOSITORY
from tests.separation.voices_for_tests import HOP, LOUDNESS, RATE, WINDOW, starts_of, timeline

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")


class Node:
    """Collects cases for web/test/compare.mjs, and runs them in one process."""

    def __init__(self, folder):
        self.folder = folder
        self._cases: list[dict] = []

    def signal(self, name: str, samples: np.ndarray) -> str:
        np.asarray(samples, np.float32).tofile(self.folder / name)
        return name

    def read(self, name: str) -> np.ndarray:
        return np.fromfile(self.folder / name, np.float32)

    def add(self, action: str, **options) -> None:
        self._cases.append({"action": action, **options})

    def run(self) -> list:
        (self.folder / "request.json").write_text(json.dumps({"cases": self._cases}))
        script = REPOSITORY / "web" / "test" / "compare.mjs"
        ran = subprocess.run([NODE, script, self.folder], capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        return json.loads((self.folder / "answers.json").read_text())


@pytest.fixture
def node(tmp_path) -> Node:
    return Node(tmp_path)


def relative_error(ours: np.ndarray, expected: np.ndarray) -> float:
    assert ours.shape == expected.shape
    return float(np.linalg.norm(ours - expected) / np.linalg.norm(expected))


def test_assignments_and_margins_are_those_of_the_package(node, rng):
    cases = []
    for number in range(60):
        num_sources = 1 + number % 4
        scores = np.round(rng.normal(0, 5, (num_sources, num_sources)), 3)
        known, talking = rng.random(num_sources) < 0.6, rng.random(num_sources) < 0.6
        masks = (known, talking) if number % 2 else (None, None)
        cases.append((scores, *masks))
        node.add(
            "assign",
            scores=scores.tolist(),
            **{k: m if m is None else m.tolist() for k, m in zip(("known", "talking"), masks, strict=True)},
        )
    for answer, case in zip(node.run(), cases, strict=True):
        order, margin = best_order(*case)
        if margin != 0:  # orders that sound the same may differ
            assert answer["order"] == order.tolist() or not np.isfinite(margin)
        ours = np.inf if answer["margin"] == "infinity" else answer["margin"]
        assert ours == pytest.approx(margin, abs=1e-9)


@pytest.mark.medium
@pytest.mark.parametrize("num_talkers", [2, 3])
def test_ties_are_those_of_the_package(node, rng, num_talkers):
    # Overlaps decide while all talk; after the long silence, only the voices do.
    spans = ((0, 12), (28, 38), (52, 61))
    turns = [(talker, a + 0.3 * talker, b - 0.2 * talker) for a, b in spans for talker in range(num_talkers)]
    sources = timeline(rng, turns, num_talkers, 62).astype(np.float32)
    starts = starts_of(sources.shape[1])
    ties = SpeakerTies(num_talkers, RATE, LOUDNESS)
    inputs = []
    for start in starts:
        window = sources[rng.permutation(num_talkers), start : start + WINDOW]
        ties.add(window, start)
        inputs.append(node.signal(f"window{start}", window))
    node.add("tie", inputs=inputs, starts=starts, numSources=num_talkers, rate=RATE, loudness=LOUDNESS)
    (answer,) = node.run()
    order_wc, report = ties.solve()
    assert answer["orders"] == order_wc.tolist()
    assert [tie["evidence"] for tie in answer["ties"]] == [tie.evidence for tie in report]
    assert {tie.evidence for tie in report} == {"overlap", "voice", "unneeded"}
    np.testing.assert_allclose([tie["margin"] for tie in answer["ties"]], [tie.margin for tie in report], rtol=1e-4)


def test_resampling_is_close_to_that_of_the_package(node, rng):
    pairs = [(44100, 8000), (8000, 44100), (48000, 16000), (11025, 8000), (8000, 8000)]
    for number, (rate, to) in enumerate(pairs):
        node.signal(f"in{number}", 0.1 * rng.standard_normal(rate))
        node.add("resample", input=f"in{number}", output=f"out{number}", **{"from": rate, "to": to}, block=7777)
    node.run()
    for number, (rate, to) in enumerate(pairs):
        expected = resample(node.read(f"in{number}"), rate, to)
        # The filters differ only in their transition bands, which hold 8 % of the energy of white noise.
        assert relative_error(node.read(f"out{number}"), expected) < (1.5e-3 if rate != to else 1e-12)


@pytest.mark.parametrize("offset", [0.0, 0.2])
@pytest.mark.parametrize("rate", [8000, 16000])
def test_levels_and_offsets_are_those_of_the_package(node, rate, offset):
    mixture = read_audio(REPOSITORY / "examples" / "mixture.wav")[0].ravel().astype(np.float32) + np.float32(offset)
    expected = ResampledRecording([mixture[None]], rate, 8000, mix=True)
    node.signal("in", mixture)
    node.add("mixture", input="in", output="out", rate=rate, modelRate=8000, levelDb=-19.0)
    (answer,) = node.run()
    bound = 1e-6 if rate == 8000 else 1e-3
    assert answer["rms"] == pytest.approx(expected.rms, rel=bound)
    assert answer["loudness"] == pytest.approx(expected.loudness, rel=bound)
    assert answer["gain"] == pytest.approx(input_gain(expected.loudness, -19.0), rel=bound)
    assert answer["offset"] == pytest.approx(expected.offsets_k[0], abs=1e-6)
    assert relative_error(node.read("out"), expected.read(0, expected.length)[0]) < bound


@pytest.mark.medium
def test_a_long_recording_is_joined_as_by_the_package(node, rng):
    turns = [(talker, 0.2 * talker, 21.3 - talker) for talker in range(2)]
    sources = timeline(rng, turns, 2, 21.4).astype(np.float32)
    assert sources.shape[1] < BLOCK
    starts = starts_of(sources.shape[1])
    orders = [rng.permutation(2).tolist() for _ in starts]
    node.signal("mixture", sources.sum(axis=0))
    node.signal("sources", sources)
    node.add(
        "separate",
        input="mixture",
        sources="sources",
        orders=orders,
        numSources=2,
        rate=RATE,
        modelRate=RATE,
        output="s",
    )
    (answer,) = node.run()
    assert all(boundary["evidence"] == "overlap" for boundary in answer["boundaries"])
    assert [boundary["time"] for boundary in answer["boundaries"]] == [
        (start + (HOP + WINDOW) / 2) / RATE for start in starts[:-1]
    ]
    first = orders[0]
    for speaker in range(2):
        written, rate = soundfile.read(node.folder / f"s{speaker + 1}.wav")
        expected = sources[first[speaker]]
        windows = lambda number: expected[starts[number] :][:WINDOW]  # noqa: B023, E731
        joined = np.concatenate(list(crossfade(windows, starts, WINDOW, HOP)))
        assert rate == RATE
        np.testing.assert_allclose(written, joined, atol=1.01 / 2**15)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_wav_files_are_read_and_written_exactly(node, rng, subtype):
    stereo = np.clip(0.2 * rng.standard_normal((1001, 2)), -1, 1)
    soundfile.write(node.folder / "in.wav", stereo, 44100, subtype)
    node.add("wav", input="in.wav", output="out")
    (answer,) = node.run()
    exact, _ = soundfile.read(node.folder / "in.wav")
    mono = exact.mean(axis=1)
    assert (answer["rate"], answer["frames"], answer["warning"]) == (44100, 1001, None)
    np.testing.assert_allclose(node.read("out"), mono, rtol=0, atol=1e-7)
    written, _ = soundfile.read(node.folder / "out.wav")
    step = {"PCM_16": 2**-15, "PCM_24": 2**-23, "FLOAT": 1e-7}[answer["subtype"]]
    assert soundfile.info(node.folder / "out.wav").subtype == answer["subtype"]
    np.testing.assert_allclose(written, mono, rtol=0, atol=1.01 * step)


def test_a_wav_file_that_is_cut_short_is_read_to_its_end_with_a_warning(node, rng):
    soundfile.write(node.folder / "whole.wav", 0.1 * rng.standard_normal(1000), 8000)
    (node.folder / "cut.wav").write_bytes((node.folder / "whole.wav").read_bytes()[:1044])
    (node.folder / "text.wav").write_bytes(b"no audio")
    node.add("wav", input="cut.wav", output="out")
    node.add("wav", input="text.wav", output="out2")
    cut, text = node.run()
    assert cut["frames"] == 500
    assert cut["warning"] == "the file seems to be cut short"
    assert text is None


def test_a_wav_file_of_empty_chunks_is_given_up(node):
    (node.folder / "empty.wav").write_bytes(b"RIFF\0\0\0\0WAVE" + bytes(8_000_000))
    node.add("wav", input="empty.wav", output="out")
    began = time.monotonic()
    assert node.run() == [None]
    assert time.monotonic() - began < 30


def test_the_rate_of_a_compressed_recording_is_read_from_its_header(node, rng):
    noise = 0.1 * rng.standard_normal(4800)
    soundfile.write(node.folder / "a.flac", noise, 11025, "PCM_24")
    soundfile.write(node.folder / "a.mp3", noise, 22050)
    soundfile.write(node.folder / "a.ogg", noise, 16000)
    soundfile.write(node.folder / "a.wav", noise, 8000, "MS_ADPCM")
    whole = (node.folder / "a.wav").read_bytes()
    list_chunk = b"LIST" + (4).to_bytes(4, "little") + b"INFO"
    (node.folder / "list_first.wav").write_bytes(whole[:12] + list_chunk + whole[12:])
    # The sample description of MP4: an audio entry with a rate of 16.16 bits.
    for name, rate in (("a.mp4", 44100), ("high.mp4", 96000 - 65536)):
        entry = bytes(4) + b"mp4a" + bytes(24) + rate.to_bytes(2, "big") + bytes(2)
        (node.folder / name).write_bytes(b"\0\0\0\x18ftypM4A " + bytes(100) + b"stsd" + bytes(8) + entry)
    expected = {
        "a.flac": (11025, "PCM_24"),
        "a.mp3": (22050, "PCM_16"),
        "a.ogg": (16000, "PCM_16"),
        "a.wav": (8000, "PCM_16"),
        "list_first.wav": (8000, "PCM_16"),
        "a.mp4": (44100, "PCM_16"),
        "high.mp4": (48000, "PCM_16"),  # unknown
    }
    for name in expected:
        node.add("inspect", input=name)
    assert {name: (f["rate"], f["subtype"]) for name, f in zip(expected, node.run(), strict=True)} == expected
