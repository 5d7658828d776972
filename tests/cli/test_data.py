"""`mossformer-jax data inspect`."""

from __future__ import annotations

import numpy as np
import pytest

from mossformer_jax.audio import read_audio
from mossformer_jax.cli import main
from tests.conftest import REPOSITORY

DEMO = str(REPOSITORY / "configs" / "demo.py")


def test_inspect_describes_what_training_draws_and_writes_samples(tmp_path, capsys):
    arguments = ["data", "inspect", "--config", DEMO, "--measure", "8", "-o", str(tmp_path), "--samples", "1"]
    assert main([*arguments, "--config.data.train.epoch_size=80", "--config.data.seconds=0.5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line[:20].strip(): line[20:].strip() for line in lines[:-3]}
    assert rows["mixtures in an epoch"] == "80"
    assert rows["measured"].startswith("8 mixtures")
    assert rows["length"].startswith("0.50 s")
    assert lines[-3:] == [str(tmp_path / f"1_{name}.wav") for name in ("mixture", "source1", "source2")]
    mixture, *sources = (read_audio(path)[0][0] for path in lines[-3:])
    np.testing.assert_allclose(mixture, sources[0] + sources[1], rtol=0, atol=1e-6)  # float32 sum
    assert len(mixture) == 4000


def test_inspect_describes_the_mixtures_of_an_evaluation_split(capsys):
    assert main(["data", "inspect", "--config", DEMO, "--split", "validation", "--measure", "4"]) == 0
    assert capsys.readouterr().out.startswith("mixtures           32, 0.04 h\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "none.py"], "none.py: no such config file"),
        (["--config", DEMO, "--config.data.trian.split=1"], "did you mean --config.data.train.split"),
        (["--config", DEMO, "--config.data.train.corpus=demmo"], "corpus 'demmo' is unknown; did you mean 'demo'"),
        (["--config", DEMO, "--config.data.seconds=0"], "data.seconds is the length of a crop and must be above 0"),
    ],
)
def test_config_errors_are_one_line(arguments, message, error_of):
    assert message in error_of("data", "inspect", *arguments)


def test_overrides_are_refused_by_commands_without_a_config(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["info", "--config.data.seed=1"])
    assert stopped.value.code == 2
    assert "unrecognized arguments: --config.data.seed=1" in capsys.readouterr().err
