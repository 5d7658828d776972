"""The script that stores a model as float16: the same separation at half the size."""

from __future__ import annotations

import re

import numpy as np
import pytest
import soundfile

from mossformer_jax import Separator
from mossformer_jax.scoring import pit_si_sdr
from mossformer_jax.weights import load_parameters
from tests.conftest import load_tool


@pytest.fixture
def sources(tmp_path, rng):
    """Sources of two mixtures, which are stored with the table tmp_path/mixtures.csv."""
    lines, both = ["mixture,source_1,source_2"], []
    for number, samples in enumerate((800, 1000)):
        sources = 0.1 * rng.standard_normal((2, samples))
        both.append(sources)
        for name, signal in zip(("m", "a", "b"), (sources.sum(axis=0), *sources), strict=True):
            soundfile.write(tmp_path / f"{name}{number}.wav", signal, 8000, subtype="FLOAT")
        lines.append(f"m{number}.wav,a{number}.wav,b{number}.wav")
    (tmp_path / "mixtures.csv").write_text("\n".join(lines))
    return both


@pytest.mark.medium
@pytest.mark.usefixtures("sources")
def test_the_stored_model_has_half_the_size_and_the_same_scores(tiny_model_folder, tmp_path, capsys):
    flags = ["--run", str(tiny_model_folder), "--mixtures", str(tmp_path / "mixtures.csv")]
    load_tool("ship_default").main([*flags, "--output", str(tmp_path / "shipped")])
    found = re.fullmatch(r"2 mixtures: SI-SDRi (\S+) dB; as float16 (\S+) dB\n", capsys.readouterr().out)
    assert found is not None
    assert abs(float(found[1]) - float(found[2])) < 0.02

    sizes = [(folder / "model.safetensors").stat().st_size for folder in (tiny_model_folder, tmp_path / "shipped")]
    assert sizes[1] < 0.7 * sizes[0]
    (config, parameters), (shipped_config, shipped) = map(load_parameters, (tiny_model_folder, tmp_path / "shipped"))
    assert shipped_config == config
    for name, values in parameters.items():
        np.testing.assert_allclose(shipped[name], values, rtol=1e-3, atol=1e-6)


@pytest.mark.medium
def test_measured_gains_minimise_the_squared_error(tiny_model_folder, tmp_path, sources):
    table = str(tmp_path / "mixtures.csv")
    flags = ["--run", str(tiny_model_folder), "--mixtures", table, "--gains-from", table]
    load_tool("ship_default").main([*flags, "--output", str(tmp_path / "shipped")])
    gains = load_parameters(tmp_path / "shipped")[0].output_gains
    assert gains is not None

    # With gains of least squares, each output is orthogonal to its error.
    separator = Separator.from_pretrained(tmp_path / "shipped")
    products, energies = np.zeros(2), np.zeros(2)
    for true in sources:
        outputs = separator(true.sum(axis=0).astype(np.float32), 8000).sources
        order = np.asarray(pit_si_sdr(outputs[None], true[None].astype(np.float32))[1][0])
        given = true[np.argsort(order)]
        products += (outputs * given).sum(axis=1)
        energies += (outputs**2).sum(axis=1)
    np.testing.assert_allclose(products, energies, rtol=0.01)  # the stored weights are float16

    # The gains apply to each shifted copy, so they do not depend on the number of copies.
    load_tool("ship_default").main([*flags, "--shifts", "2", "--output", str(tmp_path / "averaged")])
    averaged = load_parameters(tmp_path / "averaged")[0]
    assert averaged.shifts == 2
    assert averaged.output_gains == gains
