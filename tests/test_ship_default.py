"""The script that makes a shipped model of a run: the same separation, at the level of its input, in half the size."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from mossformer_jax.weights import load_parameters, save_model
from mossformer_jax.weights.loaded import LoadedModel
from tests.conftest import load_tool


@pytest.fixture(scope="module")
def ship_default():
    return load_tool("ship_default")


@pytest.fixture
def table(tmp_path, rng):
    """Two mixtures of noise, and one that is too short."""
    lines = ["mixture,source_1,source_2"]
    for number, samples in enumerate((800, 1000, 100)):
        sources = 0.1 * rng.standard_normal((2, samples))
        for name, signal in zip(("m", "a", "b"), (sources.sum(axis=0), *sources), strict=True):
            soundfile.write(tmp_path / f"{name}{number}.wav", signal, 8000, subtype="FLOAT")
        lines.append(f"m{number}.wav,a{number}.wav,b{number}.wav")
    (tmp_path / "mixtures.csv").write_text("\n".join(lines))
    return tmp_path / "mixtures.csv"


def test_what_is_shipped_adds_up_to_its_input_and_separates_as_before(
    ship_default, table, tiny_model_folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(ship_default, "NUM_SAMPLES", 800)
    config, parameters = load_parameters(tiny_model_folder)
    # Far from the level of the input, and the masks of a tiny network are small already.
    parameters = {**parameters, "decoder.kernel": parameters["decoder.kernel"] * np.float32(50)}
    save_model(tmp_path / "run", config, parameters)
    flags = ["--run", str(tmp_path / "run"), "--mixtures", str(table), "--output", str(tmp_path / "shipped")]
    ship_default.main(flags)
    assert capsys.readouterr().out.startswith("2 mixtures: SI-SDRi ")

    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("run", "shipped")]
    assert sizes[1] < 0.7 * sizes[0]
    mixture = jnp.asarray(soundfile.read(table.parent / "m0.wav", dtype="float32")[0][None, :800])
    run, shipped = (np.asarray(LoadedModel(*load_parameters(tmp_path / name))(mixture)) for name in ("run", "shipped"))
    gain = (run * shipped).sum() / (run * run).sum()
    assert np.linalg.norm(shipped - gain * run) < 5e-3 * np.linalg.norm(shipped)
    _, again = ship_default.separate_all(
        LoadedModel(*load_parameters(tmp_path / "shipped")), ship_default.read_sources(table, 8000)
    )
    assert again == pytest.approx(1.0, abs=0.01)
    assert not math.isclose(gain, 1.0, abs_tol=0.01)


def test_a_table_of_short_mixtures_is_refused(ship_default, table, monkeypatch):
    monkeypatch.setattr(ship_default, "NUM_SAMPLES", 2000)
    with pytest.raises(SystemExit, match=r"mixtures.csv: no mixture has 2000 samples"):
        ship_default.read_sources(table, 8000)
