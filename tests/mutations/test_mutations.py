"""Mutated inputs end in a result or in one line that names the input, never in a traceback, a hang or a full memory.

MUTATIONS is the number of inputs per test: a few hundred in the test suite, thousands in `make fuzz`. A failure gives
the seed of its input.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import time
from collections.abc import Iterator

import numpy as np
import pytest

from mossformer_jax.audio import AudioReader, write_audio
from mossformer_jax.audio.errors import AudioError
from mossformer_jax.cli import main
from mossformer_jax.data.layouts import open_mixtures
from mossformer_jax.data.utterances import Utterances
from mossformer_jax.separation import Separator
from mossformer_jax.weights import load_parameters
from mossformer_jax.weights.store import read_config
from tests.mutations.inputs import argument, mutated, mutated_json, mutated_text, recordings

COUNT = int(os.environ.get("MUTATIONS", "150"))
FIRST = int(os.environ.get("FIRST_SEED", "0"))
MOST_SECONDS = 60
MOST_BYTES = 4 * 2**30

pytestmark = pytest.mark.own_checks


@contextlib.contextmanager
def bounded(seed: int, name: str = "", breaks: str = "\r") -> Iterator[None]:
    """Allows only our errors, of one line that contains `name`, and limits time and memory.

    A name in the input may hold a line break; the command prints it as a space.
    """
    start, peak, problem = time.monotonic(), _peak(), None
    try:
        yield
    except (ValueError, OSError) as error:
        ours = type(error).__module__ in ("builtins", AudioError.__module__)
        if not ours or "\n" in str(error).replace(breaks, "") or name not in str(error):
            problem = error
    except Exception as error:
        problem = error
    assert problem is None, f"seed {seed}: not one line of ours that names the input: {problem!r}"
    assert time.monotonic() - start < MOST_SECONDS, f"seed {seed}"
    assert _peak() <= max(peak, MOST_BYTES), f"seed {seed}"


def _peak() -> int:
    """The most bytes that this process has ever held, in earlier tests, too."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def seeds() -> range:
    return range(FIRST, FIRST + COUNT)


def test_damaged_recordings(tmp_path, capfd):
    originals = recordings()
    path = tmp_path / "s" / "a.wav"
    path.parent.mkdir()
    (tmp_path / "m.csv").write_text("source_1\ns/a.wav\n")
    for seed in seeds():
        rng = np.random.default_rng((1, seed))
        path.write_bytes(mutated(originals[seed % len(originals)], rng))
        with bounded(seed, str(path)), AudioReader(path) as reader:
            num_samples = 0
            for block in reader.blocks(2**16):
                assert np.isfinite(block).all()
                num_samples += block.shape[1]
            assert 0 < num_samples <= reader.num_samples
            assert num_samples == reader.num_samples or reader.warning, f"seed {seed}: cut short without a warning"
        with bounded(seed, str(path)):
            speech = Utterances.from_folder(tmp_path, sample_rate=8000)
            length = speech.num_samples(0)
            start = int(rng.integers(length))
            speech.read(0, start, min(length - start, 1000))
        with bounded(seed, str(path)):
            mixtures = open_mixtures("csv", path=tmp_path / "m.csv")
            mixtures.read(0, int(rng.integers(3000)), 500)
    assert capfd.readouterr() == ("", "")


TABLE = (
    "id,mixture,source_1,source_2,noise,speaker_1,speaker_2\na,a.wav,a.wav,a.wav,,x,y\nb,a.wav,a.wav,a.wav,a.wav,x,y\n"
)
MANIFEST = "path,speaker,split,num_samples,sample_rate,speaker_known\na.wav,x,tr,800,8000,1\na.wav,y,cv,800,8000,0\n"
LIST = "a.wav a.wav a.wav 0.1\nb.wav a.wav a.wav\n"


def test_damaged_tables(tmp_path):
    write_audio(tmp_path / "a.wav", np.ones(800) / 2, 8000)
    write_audio(tmp_path / "b.wav", np.ones(800) / 2, 8000)
    file = tmp_path / "table"

    def read_all(mixtures):
        for index in range(len(mixtures)):
            mixtures.read(index)

    for seed in seeds():
        rng = np.random.default_rng((2, seed))
        file.write_bytes(mutated_text((TABLE, MANIFEST, LIST)[seed % 3], rng))
        with bounded(seed, breaks="\n"):
            if seed % 3 == 0:
                read_all(open_mixtures("csv", path=str(file)))
            elif seed % 3 == 1:
                read_all(Utterances.from_manifest(file, sample_rate=8000))
            else:
                read_all(open_mixtures("scp", path=str(file)))


@pytest.mark.medium
def test_damaged_model_configs(tmp_path, tiny_model_folder):
    fields = json.loads((tiny_model_folder / "config.json").read_text())
    file = tmp_path / "config.json"
    (tmp_path / "model.safetensors").write_bytes((tiny_model_folder / "model.safetensors").read_bytes())
    for seed in seeds():
        rng = np.random.default_rng((3, seed))
        file.write_text(mutated_json(fields, rng))
        with bounded(seed, str(tmp_path)):
            read_config(tmp_path)
        with bounded(seed, str(tmp_path)):
            load_parameters(tmp_path)


def test_damaged_weights(tmp_path, tiny_model_folder):
    (tmp_path / "config.json").write_bytes((tiny_model_folder / "config.json").read_bytes())
    data = (tiny_model_folder / "model.safetensors").read_bytes()
    for seed in seeds():
        rng = np.random.default_rng((4, seed))
        (tmp_path / "model.safetensors").write_bytes(mutated(data, rng))
        with bounded(seed, str(tmp_path)):
            load_parameters(tmp_path)


@pytest.mark.medium
def test_odd_command_lines(tmp_path, tiny_separator, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Separator, "from_pretrained", lambda *_, **__: tiny_separator)
    write_audio(tmp_path / "a.wav", 0.1 * np.random.default_rng(0).standard_normal(800), 8000)
    (tmp_path / "empty").mkdir()
    for seed in seeds():
        rng = np.random.default_rng((5, seed))
        arguments = [
            ["separate", "a.wav", "--name", argument(rng), "-o", "out", "--overwrite"],
            ["separate", argument(rng), "-o", "out"],
            ["separate", "a.wav", argument(rng), "-o", "out", "--overwrite"],
            ["separate", "a.wav", f"--output=out/{argument(rng)}"],
            ["score", "--mixtures", argument(rng), "--references", argument(rng), "--estimates", argument(rng)],
            ["score", "--mixture", "a.wav", "--reference", argument(rng), "--estimate", argument(rng)],
            ["info", argument(rng)],
            ["data", "inspect", "--config", argument(rng)],
            ["compare", argument(rng), argument(rng)],
        ][seed % 9]
        start = time.monotonic()
        try:
            status = main([*arguments])
        except SystemExit as stopped:
            status = stopped.code
        except Exception as error:
            raise AssertionError(f"seed {seed}: {arguments}: {error!r}") from error
        printed = capfd.readouterr()
        assert status in (0, 1, 2), f"seed {seed}: {arguments}"
        assert (status == 0) or printed.err.endswith("\n"), f"seed {seed}: {arguments}"
        assert "Traceback" not in printed.err
        assert time.monotonic() - start < MOST_SECONDS
        leftovers = [path for path in tmp_path.rglob("*") if path.name.endswith((".part", ".tmp"))]
        assert not leftovers, f"seed {seed}: {leftovers}"
