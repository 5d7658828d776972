"""The Python code in the documentation runs. docs/python.md and the ONNX script have tests of their own."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

import mossformer_jax
from mossformer_jax.cli import main
from mossformer_jax.data.layouts import open_mixtures
from mossformer_jax.data.pipeline import train_batches
from mossformer_jax.data.training_mixtures import open_training_mixtures
from mossformer_jax.separation import Separator
from tests.conftest import REPOSITORY
from tests.documents import PAGES, blocks, python_blocks

DATA = python_blocks("docs/data.md")
DEMO = {"corpus": "demo", "num_speakers": 4, "utterances_per_speaker": 2, "epoch_size": 100}


def run(code: str, **names) -> SimpleNamespace:
    names = {"__name__": "__main__", **names}
    exec(compile(code, "<documentation>", "exec"), names)
    return SimpleNamespace(**names)


def the_block(page: str, text: str) -> str:
    (code,) = [code for code in python_blocks(page).values() if text in code]
    return code


def test_every_block_is_run_by_a_test():
    others = {REPOSITORY / "docs" / "python.md": "", REPOSITORY / "docs" / "deployment.md": "onnxruntime"}
    here = [*DATA.values(), the_block("README.md", "Separator"), the_block("docs/deployment.md", "load_exported")]
    for page in PAGES:
        for line, language, code in blocks(page):
            elsewhere = page in others and others[page] in code
            assert language != "python" or elsewhere or code in here, f"{page.name}:{line} is not run by a test"
            assert language in ("", "python", "text", "bash", "cpp", "bibtex"), f"{page.name}:{line}: {language}"


@pytest.mark.medium
def test_the_library_example_of_the_readme(tiny_separator, monkeypatch):
    monkeypatch.setattr(Separator, "from_pretrained", lambda *_, **__: tiny_separator)
    waveform = (0.1 * np.random.default_rng(0).standard_normal((1, 800)), 8000)
    monkeypatch.setattr(mossformer_jax, "read_audio", lambda path: waveform)
    names = run(the_block("README.md", "Separator"))
    assert names.separation.sources.shape == (2, 800)


@pytest.mark.slow
@pytest.mark.own_checks  # the export traces the network with lengths that are symbols
def test_a_stablehlo_program_is_loaded_as_described(tiny_model_folder, tmp_path, monkeypatch):
    pytest.importorskip("flatbuffers")
    monkeypatch.chdir(tmp_path)
    assert main(["export", "--format", "stablehlo", str(tiny_model_folder), "separator.stablehlo"]) == 0
    mixture_bt = np.random.default_rng(0).standard_normal((1, 800)).astype(np.float32)
    names = run(the_block("docs/deployment.md", "load_exported"), mixture_bt=mixture_bt)
    assert names.sources_bct.shape == (1, 2, 800)


@pytest.mark.parametrize("line", [line for line, code in DATA.items() if code.startswith("config.")])
def test_the_sections_of_data_are_valid(line):
    """Their options are accepted: what is missing is the data below /data."""
    config = ConfigDict({"data": {"train": {"corpus": "folder", "root": "/data/speech", "sample_rate": 8000}}})
    with config.unlocked():
        run(DATA[line], config=config, ConfigDict=ConfigDict)
    part = "test" if "config.data.test" in DATA[line] else "train"
    opener = open_mixtures if part == "test" else open_training_mixtures
    with pytest.raises(FileNotFoundError, match="/data/"):
        opener(**config.data[part].to_dict())


def test_librispeech_is_mixed_with_the_options_described():
    with pytest.raises(FileNotFoundError, match="/data/"):
        run(the_block("docs/data.md", 'layout="librispeech_mix"'), open_mixtures=open_mixtures)


def test_tfds_reads_the_data_sets_as_described(monkeypatch):
    """With a stand-in for the prepared data, which tests/data/test_tfds.py makes."""
    opened = []
    tfds = pytest.importorskip("tensorflow_datasets")
    monkeypatch.setattr(tfds, "data_source", lambda name, split: opened.append((name, split)))
    code = the_block("docs/data.md", "tensorflow_datasets")
    run(code, open_mixtures=lambda **options: opened.append((options["name"], options["split"])))
    assert opened == [("libri2mix/8k_min_clean", "dev")] * 2
    assert "mossformer_jax.data.libri2mix" in sys.modules


def test_batches_are_read_and_continued_as_described():
    config = ConfigDict({"data": {"train": {**DEMO, "num_sources": 2, "sample_rate": 8000}}})
    code = the_block("docs/data.md", "batches.get_state()").replace("batch_size=64", "batch_size=2")
    code = code.replace("num_workers=8", "num_workers=0").replace("num_samples=32000", "num_samples=800")
    names = run(
        code, config=config, jax=jax, open_training_mixtures=open_training_mixtures, train_batches=train_batches
    )
    assert names.batch.mixture.shape == (2, 800)
    assert names.state == {"step": 1, "seed": 0, "batch_size": 2, "epoch_size": 100}
    names.batches.close()
