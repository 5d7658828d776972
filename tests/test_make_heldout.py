"""The script that makes the held-out mixtures of the default model, and the committed list."""

from __future__ import annotations

import csv
from collections import Counter

import numpy as np
import pytest
import soundfile

from mossformer_jax.data.layouts import open_mixtures
from tests.conftest import load_tool

RATE = 8000


@pytest.fixture(scope="module")
def make_heldout():
    return load_tool("make_heldout")


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Noise of five speakers, of which one is for training, one is unknown and one is too short to be drawn."""
    folder, rng = tmp_path_factory.mktemp("speech"), np.random.default_rng(0)
    rows = ["path,speaker,speaker_known,split,n_samples"]
    speakers = (("a", 1, "dev", 4), ("b", 1, "dev", 9), ("t", 1, "train", 4), ("u", 0, "dev", 4), ("s", 1, "dev", 2))
    for name, known, split, seconds in speakers:
        level = 0.01 if name == "a" else 0.2
        soundfile.write(folder / f"{name}.flac", level * rng.standard_normal(seconds * RATE), RATE)
        rows.append(f"{name}.flac,{name},{known},{split},{seconds * RATE}")
    (folder / "manifest.csv").write_text("\n".join(rows))
    for name in ("dev", "train"):
        soundfile.write(folder / f"noise_{name}.flac", 0.1 * rng.standard_normal(9 * RATE), RATE)
    (folder / "noise.csv").write_text("path,speaker,split\nnoise_dev.flac,d,dev\nnoise_train.flac,t,train\n")
    (folder / "rooms" / "room").mkdir(parents=True)
    for place in range(2):
        impulses = np.zeros(1000)
        impulses[10], impulses[400 + 100 * place] = 1.0, 0.3
        soundfile.write(folder / "rooms" / "room" / f"{place}.wav", impulses, RATE, subtype="FLOAT")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("heldout")


@pytest.fixture(scope="module")
def make(make_heldout, speech, folder):
    """Draws a list; returns a function that writes and reads the mixtures of a condition."""
    make_heldout.main(["--data", str(speech), "--list", str(folder / "list.csv"), "--draw"])

    def run(condition: str):
        arguments = ["--data", str(speech), "--list", str(folder / "list.csv"), "--output", str(folder / condition)]
        arguments += ["--noise", str(speech / "noise.csv"), "--rooms", str(speech / "rooms")]
        make_heldout.main([*arguments, "--condition", condition, "--count", "4"])
        mixtures = open_mixtures("csv", path=folder / condition / "mixtures.csv")
        assert len(mixtures) == 4
        return [mixtures.read(index) for index in range(4)]

    return run


def level_db(waveform) -> float:
    return float(20 * np.log10(np.sqrt(np.mean(np.square(waveform, dtype=np.float64)))))


def test_the_list_has_known_held_out_speakers_and_is_reproducible(make_heldout, speech):
    rows = make_heldout.draw_list(speech / "manifest.csv", 20)
    assert rows == make_heldout.draw_list(speech / "manifest.csv", 20)
    assert {frozenset((row["source_1_speaker"], row["source_2_speaker"])) for row in rows} == {frozenset("ab")}
    assert {row["num_samples"] for row in rows} == {str(4 * RATE)}
    assert len({row["source_1_start"] for row in rows if row["source_1_speaker"] == "b"}) > 1
    assert len({row["mixture_ID"] for row in rows}) == 20


def test_a_failed_draw_leaves_the_list_unchanged(make_heldout, tmp_path):
    written = tmp_path / "list.csv"
    written.write_text("as it was")
    with pytest.raises(FileNotFoundError):
        make_heldout.main(["--data", str(tmp_path / "missing"), "--list", str(written), "--draw"])
    assert written.read_text() == "as it was"


def test_the_committed_list_has_two_speakers_in_each_of_200_mixtures_and_60_more(make_heldout):
    with open(make_heldout.LIST, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["mixture_ID"] for row in rows}) == len(rows) == 260
    assert (make_heldout.NUM_TEST, make_heldout.NUM_VALIDATION) == (200, 60)
    pairs = [(row["source_1_speaker"], row["source_2_speaker"]) for row in rows]
    assert all(first != second for first, second in pairs)
    counts = Counter(speaker for pair in pairs for speaker in pair)
    assert len(counts) == 27
    assert min(counts.values()) >= 5
    lengths = [int(row["num_samples"]) / RATE for row in rows]
    assert 3 <= min(lengths) <= max(lengths) <= 8


def test_the_committed_list_of_children_has_two_speakers_in_each_of_200_mixtures(make_heldout):
    with open(make_heldout.LIST.with_name("default_8k_heldout_children.csv"), newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == make_heldout.COLUMNS
    assert len(rows) == len({row["mixture_ID"] for row in rows}) == 200
    speakers = {row[f"source_{s}_speaker"] for row in rows for s in (1, 2)}
    assert len(speakers) == 19  # the other two have no utterance of three seconds
    assert all(speaker.startswith("so-") for speaker in speakers)
    assert all(row["source_1_speaker"] != row["source_2_speaker"] for row in rows)


def test_a_list_without_validation_mixtures_is_drawn_and_written(make_heldout, speech, tmp_path):
    options = ["--data", str(speech), "--list", str(tmp_path / "list.csv")]
    make_heldout.main([*options, "--draw", "--count", "2"])
    make_heldout.main([*options, "--output", str(tmp_path / "audio")])
    assert len(open_mixtures("csv", path=tmp_path / "audio" / "mixtures.csv")) == 2
    assert not (tmp_path / "audio" / "validation").exists()


@pytest.mark.medium
def test_clean_mixtures_are_the_sum_of_their_files_at_levels_within_the_range(make):
    for mixture in make("clean"):
        np.testing.assert_array_equal(mixture.mixed(), mixture.sources.sum(axis=0))
        assert all(-33.1 < level_db(source) < -24.9 for source in mixture.sources)
        assert set(mixture.speakers) == {"a", "b"}


@pytest.mark.medium
def test_every_condition_changes_the_clean_mixtures_as_documented(make):
    clean = make("clean")
    for plain, mixture in zip(clean, make("single"), strict=True):
        np.testing.assert_array_equal(mixture.sources[0], plain.sources[0])
        assert not mixture.sources[1].any()
    for plain, mixture in zip(clean, make("partial"), strict=True):
        heard = mixture.sources != 0
        assert heard.mean(axis=1) == pytest.approx([0.6, 0.6], abs=0.01)
        assert heard.all(axis=0).mean() == pytest.approx(0.2, abs=0.01)
        np.testing.assert_array_equal(mixture.sources[heard], plain.sources[heard])
    differences = [level_db(m.sources[0]) - level_db(m.sources[1]) for m in make("levels")]
    assert differences == pytest.approx([10, -10, 10, -10], abs=0.1)
    for plain, mixture in zip(clean, make("hiss"), strict=True):
        np.testing.assert_array_equal(mixture.sources, plain.sources)
        noise = mixture.mixed() - mixture.sources.sum(axis=0)
        assert level_db(plain.mixed()) - level_db(noise) == pytest.approx(20, abs=0.1)
    assert not any(mixture.mixed().any() or mixture.sources.any() for mixture in make("silence"))


@pytest.mark.medium
def test_noise_is_held_out_and_has_the_snr_range_of_wham(make, speech):
    recording, _ = soundfile.read(speech / "noise_dev.flac")
    for plain, mixture in zip(make("clean"), make("noise"), strict=True):
        np.testing.assert_array_equal(mixture.sources, plain.sources)
        noise = mixture.mixed() - mixture.sources.sum(axis=0)
        snr_db = max(level_db(source) for source in mixture.sources) - level_db(noise)
        assert -6.1 < snr_db < 3.1
        windows = np.lib.stride_tricks.sliding_window_view(recording, 1000)
        likeness = windows @ noise[:1000] / np.linalg.norm(windows, axis=1) / np.linalg.norm(noise[:1000])
        assert likeness.max() > 0.99


def test_room_mixtures_are_reverberant_and_their_sources_are_the_direct_sound(make):
    for plain, mixture in zip(make("clean"), make("room"), strict=True):
        for source, dry in zip(mixture.sources, plain.sources, strict=True):
            gain = float(source @ dry) / float(dry @ dry)
            assert 0.5 < gain < 1.0 + 1e-6
            np.testing.assert_allclose(source, gain * dry, atol=2 / 2**15)  # 16 bits, twice
        rest = mixture.mixed() - mixture.sources.sum(axis=0)
        for source in mixture.sources:
            delayed = [rest[delay:] @ source[:-delay] / np.linalg.norm(rest) for delay in (390, 490)]
            assert max(delayed) / np.linalg.norm(source) > 0.03  # chance: 0.006


def test_all_conditions_are_written_with_one_table_to_choose_by(make_heldout, make, speech, folder):
    make("clean")
    output = folder / "all"
    arguments = ["--data", str(speech), "--list", str(folder / "list.csv"), "--output", str(output), "--count", "2"]
    surroundings = ["--noise", str(speech / "noise.csv"), "--rooms", str(speech / "rooms")]
    make_heldout.main([*arguments, "--condition", "all", *surroundings])
    assert {path.name for path in output.iterdir()} == {*make_heldout.CONDITIONS, "validation.csv"}
    chosen_by = open_mixtures("csv", path=output / "validation.csv")
    ids = [chosen_by.mixture_id(index) for index in range(len(chosen_by))]
    assert [name.split("_")[0] for name in ids] == ["clean", "clean", "noise", "noise", "room", "room"]
    room = open_mixtures("csv", path=output / "room" / "validation" / "mixtures.csv").read(1)
    np.testing.assert_array_equal(chosen_by.read(5).mixed(), room.mixed())


def test_a_condition_without_its_recordings_is_a_usage_error(make_heldout, speech, folder, capsys):
    arguments = ["--data", str(speech), "--output", str(folder / "x"), "--condition"]
    for condition, option in (("noise", "--noise"), ("room", "--noise"), ("all", "--noise")):
        with pytest.raises(SystemExit) as stopped:
            make_heldout.main([*arguments, condition])
        assert stopped.value.code == 2
        assert f"condition {condition} needs {option}" in capsys.readouterr().err
    assert not (folder / "x").exists()


def test_validation_and_test_mixtures_are_disjoint(make, folder):
    make("clean")
    validation, test = (open_mixtures("csv", path=folder / f"clean/{name}mixtures.csv") for name in ("validation/", ""))
    assert len(validation) == len(test) == 4
    ids = [mixtures.mixture_id(index) for mixtures in (validation, test) for index in range(4)]
    assert len(set(ids)) == 8
