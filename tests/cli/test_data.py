"""`mossformer-jax data inspect`."""

from __future__ import annotations

import numpy as np
import pytest

from mossformer_jax.audio import read_audio
from mossformer_jax.cli import main
from tests.conftest import REPOSITORY

DEMO = str(REPOSITORY / "configs" / "demo.py")


@pytest.mark.medium
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


@pytest.mark.medium
def test_inspect_shows_the_acoustics_and_how_often_they_were_drawn(tmp_path, capsys):
    options = {
        "babble.share": 1.0,
        "babble.num_speakers": "(1,2)",
        "level_drift.share": 0.5,
        "single_share": 1.0,
        "num_speakers": 6,
    }
    overrides = [f"--config.data.train.{name}={value}" for name, value in options.items()]
    short = ["--config.data.seconds=0.5", "--measure", "4", "-o", str(tmp_path), "--samples", "1"]
    assert main(["data", "inspect", "--config", DEMO, *short, *overrides]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line[:21].strip(): line[21:].strip() for line in lines}
    assert rows["babble"] == "in 100% of the mixtures"
    assert rows["level drift"] == "in 50% of the mixtures"
    assert "reverberation" not in rows
    assert rows["noise or acoustics"] == rows["one talker at most"] == "100% of the mixtures"
    assert 0 <= float(rows["SNR"].split()[0]) <= 30
    mixture, *rest = (
        read_audio(tmp_path / f"1_{name}.wav")[0][0] for name in ("mixture", "source1", "source2", "noise")
    )
    np.testing.assert_allclose(mixture, sum(rest), rtol=0, atol=1e-6)  # float32 sum


def test_inspect_shows_the_acoustics_of_stored_mixtures(tmp_path, capsys):
    train = {"layout": "demo", "num_mixtures": 4, "level_drift": {"share": 0.5}}
    lines = (
        "from ml_collections import ConfigDict",
        f"def get_config(): return ConfigDict({{'data': {{'train': {train}, 'seconds': 0.5}}}})",
    )
    (tmp_path / "c.py").write_text("\n".join(lines))
    assert main(["data", "inspect", "--config", str(tmp_path / "c.py")]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "level drift in 50% of the mixtures" in lines


def test_inspect_describes_the_mixtures_of_an_evaluation_split(capsys):
    assert main(["data", "inspect", "--config", DEMO, "--split", "validation", "--measure", "4"]) == 0
    assert capsys.readouterr().out.startswith("mixtures            32, 0.04 h\n")


@pytest.mark.medium
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


@pytest.mark.medium
@pytest.mark.parametrize(
    ("split", "value", "message"),
    [
        ("train", "'speech'", "data.train='speech' is not allowed: must be a section"),
        ("train", "['a', 'b']", "data.train=['a', 'b'] is not allowed: must be a section"),
        ("train", "{}", "has no data.train"),
        ("train", "{'root': 'x'}", "must have either a corpus"),
        ("train", "{'corpus': ['a']}", "corpus ['a'] is unknown"),
        ("train", "{'corpus': 'demo', 'level_drift': 3}", "level_drift=3 is not allowed: must be a section"),
        (
            "train",
            "{'corpus': 'demo', 'epoch_size': 1.5}",
            "epoch_size=1.5 is not allowed: must be a whole number, or None",
        ),
        ("train", "{'corpus': 'demo', 'num_sources': 2.0}", "num_sources=2.0 is not allowed: must be a whole number"),
        ("train", "{'corpus': 'demo', 'noise_share': '1'}", "noise_share='1' is not allowed: must be a number"),
        ("train", "{'corpus': 'demo', 'speeds': (10**30,)}", "dynamic mixing: speeds=1000000000000000"),
        (
            "train",
            "{'corpus': 'demo', 'speeds': (2000,)}",
            "speeds=(2000,) is not allowed: must be at most 1000 percent",
        ),
        ("train", "{'corpus': 'demo', 'sample_rate': 10**7}", "sample_rate=10000000 is not allowed for corpus 'demo'"),
        ("train", "{'corpus': 'demo', 'utterances_per_speaker': 10**9}", "must be at most 10,000"),
        ("validation", "'speech'", "data.validation='speech' is not allowed: must be a section"),
        ("validation", "['a']", "data.validation=['a'] is not allowed"),
        ("validation", "{'root': 'x'}", "data.validation has no layout"),
        ("validation", "{'layout': ['csv']}", "data.validation has no layout"),
        ("validation", "{'layout': 'demo', 'num_mixtures': 10**30}", "layout 'demo': num_mixtures=1000000"),
        ("validation", "{'layout': 'demo', 'num_mixtures': 2**31}", "must be at most 1,000,000"),
        ("validation", "{'layout': 'demo', 'seconds': 1e-9}", "seconds=1e-09 is not allowed: must be from one sample"),
        ("validation", "{'layout': 'demo', 'num_mixtures': -1}", "num_mixtures=-1 is not allowed: must be 1 or more"),
    ],
)
@pytest.mark.own_checks
def test_inspecting_a_split_that_is_no_data_is_one_line(tmp_path, error_of, split, value, message):
    lines = (
        "from ml_collections import ConfigDict",
        f"def get_config(): return ConfigDict({{'data': {{'{split}': {value}}}}})",
    )
    (tmp_path / "c.py").write_text("\n".join(lines))
    assert message in error_of("data", "inspect", "--config", tmp_path / "c.py", "--split", split)


@pytest.mark.medium
@pytest.mark.parametrize("seconds", ["1e24", "-1.0", "nan", "inf"])
def test_an_impossible_length_of_crops_is_named(error_of, seconds):
    message = error_of("data", "inspect", "--config", DEMO, f"--config.data.seconds={seconds}")
    assert "data.seconds is the length of a crop and must be above 0 and up to 3600" in message
