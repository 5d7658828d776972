"""Training on the user's own recordings, with only the shipped config and overrides."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mossformer_jax.data.layouts import open_mixtures
from mossformer_jax.data.training_mixtures import open_training_mixtures
from mossformer_jax.training.configuration import check_mixtures, load_config, resolve

RATE, LENGTH = 16000, 4000
PARTS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Path:
    """Two mixtures of three sources at 16 kHz in each part, as folders, as tables and as lists; and three speakers."""
    root, rng = tmp_path_factory.mktemp("mine"), np.random.default_rng(0)
    for part in PARTS:
        table, listed = ["source_1,source_2,source_3"], []
        for name in ("a", "b"):
            sources = rng.integers(-3000, 3000, (3, LENGTH)).astype(np.int16)
            for signal, samples in zip(
                ("mix", "s1", "s2", "s3"), (sources.sum(0, dtype=np.int16), *sources), strict=True
            ):
                path = root / part / signal / f"{name}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, samples, RATE)
            table.append(",".join(f"{part}/s{s}/{name}.wav" for s in (1, 2, 3)))
            listed.append(" ".join(f"{part}/{signal}/{name}.wav" for signal in ("mix", "s1", "s2", "s3")))
        (root / f"{part}.csv").write_text("\n".join(table))
        (root / f"{part}.scp").write_text("\n".join(listed))
    return root


@pytest.mark.parametrize("variant", ["csv", "scp", "folders", "dynamic"])
def test_path_rate_and_number_of_sources_need_to_be_set_only_once(stored, tmp_path, variant):
    if variant == "dynamic":
        shutil.copytree(stored, tmp_path, dirs_exist_ok=True)
        shutil.rmtree(tmp_path / "train" / "mix")  # the remaining folders are three speakers: s1, s2, s3
        stored = tmp_path
    overrides = [f"--config.data.root={stored}", "--config.model.sample_rate=16000", "--config.model.num_sources=3"]
    model, _, data = resolve(load_config(f"own_data:{variant}", overrides))
    mixtures = open_training_mixtures(**data.train)
    check_mixtures(model, mixtures, "train")
    drawn = mixtures.draw(0, 1000, np.random.default_rng(0))
    assert drawn.sources.shape == (3, 1000)
    for options in (data.validation, data.test):
        heldout = open_mixtures(**options)
        check_mixtures(model, heldout, "validation")
        assert len(heldout) == 2


@pytest.mark.parametrize("variant", ["csv", "scp", "folders", "dynamic"])
def test_recorded_noise_rooms_babble_and_codecs_are_options_of_every_variant(stored, tmp_path, variant):
    for folder in ("noise", "rooms/one"):
        (tmp_path / folder).mkdir(parents=True)
        signal = np.zeros(400) if folder != "noise" else 0.1 * np.random.default_rng(0).standard_normal(LENGTH)
        signal[3] = 0.5
        soundfile.write(tmp_path / folder / "a.wav", signal, RATE)
    if variant == "dynamic":
        shutil.copytree(stored, tmp_path / "mine")
        shutil.rmtree(tmp_path / "mine" / "train" / "mix")
        stored = tmp_path / "mine"
    train = "--config.data.train"
    overrides = [
        f"--config.data.root={stored}",
        "--config.model.sample_rate=16000",
        f"--config.model.num_sources={2 if variant == 'dynamic' else 3}",  # one of the three speakers is for babble
        f"{train}.recorded_noise.root={tmp_path / 'noise'}",
        f"{train}.recorded_noise.snr_db=(5.0,5.0)",
        f"{train}.recorded_noise.share=1.0",
        f"{train}.reverberation.root={tmp_path / 'rooms'}",
        f"{train}.babble.share=0.5",
        f"{train}.channel.share=0.5",
        f"{train}.channel.codecs=('telephone','mu-law')",
        *([] if variant == "dynamic" else [f"{train}.babble.root={stored / 'train' / 's1'}", f"{train}.speeds=(100,)"]),
    ]
    _, _, data = resolve(load_config(f"own_data:{variant}", overrides))
    mixtures = open_training_mixtures(**data.train)
    for seed in range(8):
        drawn = mixtures.draw(0, 1000, np.random.default_rng(seed))
        assert drawn.noise is not None
        assert np.isfinite(drawn.mixed()).all()


def test_options_that_the_config_does_not_name_can_be_set(stored):
    overrides = [f"--config.data.root={stored}", "--config.data.train.single_share=0.25"]
    overrides += ["--config.data.train.level_drift.share=0.5", "--config.data.train.speeds=(90, 110)"]
    _, _, data = resolve(load_config("own_data:dynamic", overrides))
    mixtures = open_training_mixtures(**data.train | {"sample_rate": RATE})
    assert (mixtures.single_share, mixtures.level_drift.share, mixtures.speeds) == (0.25, 0.5, (90, 110))


def test_the_error_for_an_unknown_option_lists_those_of_the_corpus_and_the_mixing():
    with pytest.raises(
        ValueError, match=r"did you mean --config\.data\.train\.single_share .*All options there: corpus"
    ) as e:
        load_config("own_data:dynamic", ["--config.data.train.singel_share=0.25"])
    assert all(name in str(e.value) for name in ("speaker_level", "epoch_size", "babble", "noise_root"))
    with pytest.raises(
        ValueError, match=r"'folder' have no option 'singel_share'; did you mean 'single_share'\? All: corpus"
    ):
        open_training_mixtures(corpus="folder", root="speech", sample_rate=8000, singel_share=0.25)
