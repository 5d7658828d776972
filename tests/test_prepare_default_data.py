"""The script that writes the tables of speech and noise of the default model."""

from __future__ import annotations

import csv

import pytest

from mossformer_jax.data.utterances import Utterances
from tests.conftest import load_tool


@pytest.fixture
def data(tmp_path):
    """Tables of the three folders; the files that they name are not needed."""
    ages = {f"so-{number:04d}": 8 if number <= 12 else 30 for number in range(1, 21)}
    tables = {
        "speech8k": "path,speaker,speaker_known,split,n_samples\na.flac,ls-1,1,train,8000\nb.flac,ls-2,1,dev,8000\n",
        "speech8k_more": "path,speaker,speaker_known,split,n_samples\n"
        + "".join(f"{speaker}.flac,{speaker},1,train,16000\n" for speaker in ages),
        "noise8k": "path,n_samples\nesc10_rain_1-1-A_00.flac,100\nesc10_rain_2-7-A_00.flac,100\n"
        "gsc_exercise_bike_01.flac,100\ngsc_running_tap_00.flac,100\n",
    }
    for name, text in tables.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.csv").write_text(text)
    (tmp_path / "speech8k_more" / "speechocean762").mkdir()
    lines = "".join(f"{speaker},M,{age}\n" for speaker, age in ages.items())
    (tmp_path / "speech8k_more" / "speechocean762" / "speakers.csv").write_text("speaker,gender,age\n" + lines)
    return tmp_path


def test_every_row_has_a_split_and_leads_to_its_file(data, capsys):
    output = data / "tables" / "below"
    load_tool("prepare_default_data").main(["--data", str(data), "--output", str(output)])
    with open(output / "speech.csv", newline="") as file:
        splits = {row["speaker"]: row["split"] for row in csv.DictReader(file)}
    assert {speaker for speaker, split in splits.items() if split == "dev-children"} == {"so-0001", "so-0007"}
    assert {speaker for speaker, split in splits.items() if split == "dev-nonnative"} == {"so-0013"}
    assert (splits["ls-1"], splits["ls-2"], splits["so-0002"]) == ("train", "dev", "train")
    speech = Utterances.from_manifest(output / "speech.csv", sample_rate=8000, split="train")
    assert len(speech) == 18
    assert (data / "speech8k" / "a.flac").resolve() in [(output / path).resolve() for path in speech.paths]
    assert speech.num_samples(speech.paths.index(next(p for p in speech.paths if p.endswith("/a.flac")))) == 8000

    noise = {
        name: Utterances.from_manifest(output / "noise.csv", sample_rate=8000, split=name) for name in ("train", "dev")
    }
    assert sorted(noise["train"].speaker_names) == ["esc10_rain_1-1-A_00.flac", "gsc_running_tap_00.flac"]
    assert sorted(noise["dev"].speaker_names) == ["esc10_rain_2-7-A_00.flac", "gsc_exercise_bike_01.flac"]
    assert "noise.csv: 2 dev, 2 train" in capsys.readouterr().out
