"""Fixtures of the command's tests: no test touches the user's cache or changes JAX's settings for the others."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

from mossformer_jax.audio import read_audio, write_audio
from mossformer_jax.cli import attempt, main
from mossformer_jax.separation import Boundary, OutputOptions, SeparatedFile, Separator, Timings
from tests.conftest import settings_of_jax_restored


@pytest.fixture(autouse=True)
def _jax_as_it_was(monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", jax.config.jax_compilation_cache_dir)
    with settings_of_jax_restored():
        yield


@pytest.fixture
def recordings(tmp_path, rng):
    """A mixture of two sources, 0.1 s at 8 kHz, as files."""
    sources = 0.1 * rng.standard_normal((2, 800))
    for name, signal in zip(["s1", "s2", "mix"], [*sources, sources.sum(0)], strict=True):
        write_audio(tmp_path / f"{name}.wav", signal, 8000)
    return tmp_path


@pytest.fixture
def error_of(capsys):
    """Runs a command that must fail; returns its one-line error message."""

    def run(*arguments) -> str:
        assert main([str(argument) for argument in arguments]) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("mossformer-jax: error: ")
        assert printed.err.count("\n") == 1
        return printed.err

    return run


class StandIn(Separator):
    """Replaces the model and the network: every source is half of the mixture.

    Attributes:
        calls: the names of the recordings that it received.
        raises: the exceptions to raise, by name of the recording.
        options: the output options of the last call.
    """

    def __init__(self):
        self.calls: list[str] = []
        self.raises: dict[str, BaseException] = {}
        self.options = OutputOptions()
        self.config = SimpleNamespace(num_sources=2)

    def separate_file(self, separator, path, outputs, options, *, progress, track) -> SeparatedFile:
        path = Path(path)
        self.calls.append(path.name)
        self.options = options
        if path.name in self.raises:
            raise self.raises[path.name]
        waveform, sample_rate = read_audio(path)
        for output in outputs:
            output.parent.mkdir(parents=True, exist_ok=True)
            write_audio(output, waveform / 2, sample_rate, options.subtype or "PCM_16")
        duration = waveform.shape[1] / sample_rate
        progress(duration)
        boundaries = (Boundary(0.5, float("inf"), "overlap"),)
        return SeparatedFile(list(outputs), sample_rate, duration, 1.0, boundaries, (), Timings(0.5, 0.01))


@pytest.fixture
def stand_in(monkeypatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setattr(Separator, "from_pretrained", lambda model, **keywords: stand_in)
    monkeypatch.setattr(attempt, "separate_file", stand_in.separate_file)
    return stand_in


@pytest.fixture
def folder(tmp_path, rng):
    """Three good recordings of 0.1 s, one of them in a sub-folder."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.wav", "b.flac", "sub/c.wav"):
        write_audio(folder / name, 0.1 * rng.standard_normal(800), 8000)
    return folder
