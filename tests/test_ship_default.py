"""The script that stores a model as float16: the same separation at half the size."""

from __future__ import annotations

import re

import numpy as np
import soundfile

from mossformer_jax.weights import load_parameters
from tests.conftest import load_tool


def test_the_stored_model_has_half_the_size_and_the_same_scores(tiny_model_folder, tmp_path, rng, capsys):
    lines = ["mixture,source_1,source_2"]
    for number, samples in enumerate((800, 1000)):
        sources = 0.1 * rng.standard_normal((2, samples))
        for name, signal in zip(("m", "a", "b"), (sources.sum(axis=0), *sources), strict=True):
            soundfile.write(tmp_path / f"{name}{number}.wav", signal, 8000, subtype="FLOAT")
        lines.append(f"m{number}.wav,a{number}.wav,b{number}.wav")
    (tmp_path / "mixtures.csv").write_text("\n".join(lines))

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
