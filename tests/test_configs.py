"""The config files in configs/."""

from __future__ import annotations

import ast
import inspect
import runpy
import shlex
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mossformer_jax.data.layouts import open_mixtures
from mossformer_jax.data.training_mixtures import open_training_mixtures
from mossformer_jax.training.configuration import check_mixtures, load_config, resolve
from mossformer_jax.weights.parameters import count_parameters

REPOSITORY = Path(__file__).parents[1]
FILES = sorted((REPOSITORY / "configs").glob("*.py"))
# All configs and their variants.
CONFIGS = [
    f"{file}:{variant}" if variant else str(file)
    for file in FILES
    for variant in ["", *inspect.signature(runpy.run_path(str(file))["get_config"]).parameters]
]
configs = pytest.mark.parametrize("path", CONFIGS, ids=[Path(path).name for path in CONFIGS])
files = pytest.mark.parametrize("file", FILES, ids=[file.name for file in FILES])


def test_every_documented_config_exists():
    names = {"default_8k", "demo", "finetune", "libri2mix", "libri3mix", "wsj0_2mix", "wsj0_3mix", "wham"}
    names |= {"whamr", "own_data"}
    assert names <= {file.stem for file in FILES}


@configs
def test_every_config_is_valid(path):
    _, recipe, data = resolve(load_config(path))
    assert data.test
    assert recipe.steps or recipe.epochs


@configs
def test_the_training_length_can_be_set_in_steps(path):
    config = load_config(path, ["--config.train.steps=7", "--config.train.checkpoint_every=3"])
    _, recipe, _ = resolve(config)
    assert (recipe.steps, recipe.checkpoint_every) == (7, 3)


@configs
def test_the_right_name_is_suggested_for_a_misspelt_learning_rate(path):
    with pytest.raises(ValueError, match=r"did you mean .*--config\.train\.lr\b(?!_)"):
        load_config(path, ["--config.train.lerning_rate=3"])


@files
def test_the_docstring_has_commands_that_load(file):
    lines = [line for line in _docstring(file).replace("\\\n", "").split("\n") if "mossformer-jax train" in line]
    assert lines
    for line in lines:
        arguments = shlex.split(line)
        config = arguments[arguments.index("--config") + 1]
        assert config.partition(":")[0] == file.stem
        assert "--workdir" in arguments
        overrides = [argument for argument in arguments if argument.startswith("--config.")]
        resolve(load_config(config, overrides))


@files
def test_the_docstring_lists_requirements_and_expected_results(file):
    docstring = _docstring(file)
    assert any(word in docstring for word in ("Published:", "Expect "))
    assert any(word in docstring for word in ("We have not run this", "nobody publishes"))


@files
def test_the_model_has_the_size_in_the_docstring(file):
    model, _, _ = resolve(load_config(str(file)))
    millions = f"{count_parameters(model) / 1e6:.1f}M"
    assert millions in _docstring(file) or file.name in ("demo.py", "finetune.py")


@configs
def test_the_rate_and_the_number_of_sources_are_set_in_one_place(path):
    config = load_config(path, ["--config.model.sample_rate=16000"])
    resolve(config)
    assert {config.data[part].sample_rate for part in ("train", "validation", "test")} == {16000}


@pytest.mark.medium
@configs
def test_the_data_of_every_config_are_found_below_root(path, tmp_path):
    _make_data_sets(tmp_path)
    overrides = [] if Path(path).name == "demo.py" else [f"--config.data.root={tmp_path / _root(path)}"]
    if ":dynamic" in path and "libri" not in path and "own_data" not in path:
        overrides.append(f"--config.data.train.root={tmp_path}/wsj0/si_tr_s")
    model, _, data = resolve(load_config(path, overrides))
    train = open_training_mixtures(**data.train)
    check_mixtures(model, train, "train")
    mixture = train.draw(0, 800, np.random.default_rng(0))
    assert mixture.sources.shape == (model.num_sources, 800)
    for part in ("validation", "test"):
        mixtures = open_mixtures(**getattr(data, part))
        check_mixtures(model, mixtures, part)
        assert len(mixtures.read(0).sources) == model.num_sources


@configs
def test_the_error_names_missing_data(path):
    if Path(path).name == "demo.py":
        return
    _, _, data = resolve(load_config(path, ["--config.data.root=/nowhere"]))
    with pytest.raises(FileNotFoundError, match="/nowhere"):
        open_mixtures(**data.validation)


def _docstring(file: Path) -> str:
    """The docstring as written in the source, because escapes in a string would join lines."""
    text = ast.parse(file.read_text()).body[0]
    assert isinstance(text, ast.Expr)
    return ast.get_source_segment(file.read_text(), text) or ""


def _root(path: str) -> str:
    name = Path(path).name.partition(".")[0]
    return {"wham": "wham", "whamr": "whamr", "wsj0_2mix": "wsj0-mix", "wsj0_3mix": "wsj0-mix"}.get(name, "")


def _make_data_sets(root: Path) -> None:
    """One mixture or a few utterances of every data set, with its file names."""
    for part in ("train", "validation", "test"):
        _make_tree(root / part, ["mix", "s1", "s2"], "a.wav")
        (root / f"{part}.csv").write_text(f"source_1,source_2\n{part}/s1/a.wav,{part}/s2/a.wav\n")
        (root / f"{part}.scp").write_text(f"{part}/mix/a.wav {part}/s1/a.wav {part}/s2/a.wav\n")
    name = "050a0501_1.7783_442o030z_-1.7783.wav"
    for number in (2, 3):
        sources = [f"s{source}" for source in range(1, number + 1)]
        for split in ("train-360", "dev", "test"):
            _make_tree(root / f"Libri{number}Mix/wav8k/min/{split}", ["mix_clean", *sources], "1-1-1_2-2-2.wav")
        for split in ("tr", "cv", "tt"):
            _make_tree(root / f"wsj0-mix/{number}speakers/wav8k/min/{split}", ["mix", *sources], name)
        columns = [f"source_{source}_{field}" for source in range(1, number + 1) for field in ("path", "gain")]
        for subset in ("train-clean-360", "dev-clean", "test-clean"):
            metadata = root / f"metadata/Libri{number}Mix/libri{number}mix_{subset}.csv"
            metadata.parent.mkdir(parents=True, exist_ok=True)
            row = ["id", *(cell for s in range(1, number + 1) for cell in (f"{subset}/{s}/1/{s}-1-1.flac", "0.5"))]
            metadata.write_text(f"{','.join(['mixture_ID', *columns])}\n{','.join(row)}\n")
            for speaker in range(1, number + 1):
                _make_audio(root / f"LibriSpeech/{subset}/{speaker}/1/{speaker}-1-1.flac", 16000, speaker)
    for split in ("tr", "cv", "tt"):
        _make_tree(root / f"wham/wav8k/min/{split}", ["mix_both", "s1", "s2", "noise"], name)
        folders = ["mix_both_reverb", "s1_anechoic", "s2_anechoic", "noise"]
        _make_tree(root / f"whamr/wav8k/min/{split}", folders, name)
        _make_audio(root / f"whamr/wav8k/min/{split}/mix_both_reverb/{name}", 8000, seed=9)  # not the sum
    for speaker in ("01a", "01b", "01c"):
        _make_audio(root / f"wsj0/si_tr_s/{speaker}/{speaker}c0101.wav", 16000, ord(speaker[-1]))
        _make_audio(root / f"speech8k/{speaker}.flac", 8000, ord(speaker[-1]))
    rows = [f"speech8k/{speaker}.flac,{speaker},1,train,2000" for speaker in ("01a", "01b", "01c")]
    (root / "speech.csv").write_text("\n".join(["path,speaker,speaker_known,split,num_samples", *rows]))
    _make_audio(root / "noise8k/hiss.flac", 8000, seed=1)
    (root / "noise.csv").write_text("path,speaker,split,num_samples\nnoise8k/hiss.flac,hiss,train,2000\n")
    _make_audio(root / "rooms/room/0.wav", 8000, seed=2)
    _make_tree(root / "heldout/clean", ["mix", "s1", "s2"], "1.wav")
    for table, prefix in (("clean/mixtures.csv", ""), ("validation.csv", "clean/")):
        row = ",".join(f"{prefix}{signal}/1.wav" for signal in ("mix", "s1", "s2"))
        (root / "heldout" / table).write_text(f"mixture,source_1,source_2\n{row}\n")


def _make_tree(folder: Path, signals: list[str], name: str) -> None:
    """Signals; the first is the sum of the others."""
    samples = [_make_audio(folder / signal / name, 8000, seed) for seed, signal in enumerate(signals[1:])]
    _make_audio(folder / signals[0] / name, 8000, 0, np.sum(samples, axis=0))


def _make_audio(path: Path, rate: int, seed: int, samples: np.ndarray | None = None) -> np.ndarray:
    if samples is None:
        samples = 0.1 * np.random.default_rng(seed).standard_normal(rate // 4)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate)
    return samples
