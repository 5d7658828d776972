"""Mixtures listed in a text file: ClearerVoice's .scp, and CSV."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import soundfile

from mossformer_jax.audio import write_audio
from mossformer_jax.data.layouts import open_mixtures

NAMES = ("first", "second")


@pytest.fixture
def written(tmp_path, write_audio_files):
    """Two mixtures in tmp_path/audio; the samples of each file by (signal, name)."""
    return write_audio_files(tmp_path / "audio", ["mix", "s1", "s2", "noise"], NAMES)


@pytest.fixture
def write_list(tmp_path, written):
    def write(name, text, **options):
        (tmp_path / name).write_text(text, **options)
        return tmp_path / name

    return write


SCP = "".join(f"audio/mix/{name}.wav audio/s1/{name}.wav audio/s2/{name}.wav\n" for name in NAMES)
CSV = "id,mixture,source_1,source_2,noise,speaker_1,speaker_2\n" + "".join(
    f"{name}-id,audio/mix/{name}.wav,audio/s1/{name}.wav,audio/s2/{name}.wav,audio/noise/{name}.wav,ann,bob\n"
    for name in NAMES
)


@pytest.mark.parametrize("text", [SCP, SCP.replace("\n", " 0.0375\n"), SCP.replace("\n", "\n\n").replace(" ", "\t ")])
def test_scp_lists_with_and_without_durations(write_list, written, text):
    mixtures = open_mixtures("scp", path=str(write_list("tr.scp", text)))
    assert (len(mixtures), mixtures.num_sources, mixtures.sample_rate) == (2, 2, 8000)
    for index, name in enumerate(NAMES):
        read = mixtures.read(index)
        assert (read.id, read.speakers, read.noise, mixtures.num_samples(index)) == (name, (), None, 300)
        np.testing.assert_array_equal(read.mixture, written["mix", name])
        np.testing.assert_array_equal(read.sources, [written["s1", name], written["s2", name]])


def test_relative_paths_start_at_root_and_absolute_paths_are_kept(tmp_path, write_list, written):
    (tmp_path / "lists").mkdir()
    path = write_list("lists/tr.scp", SCP.replace("audio/s1", f"{tmp_path}/audio/s1"))
    mixtures = open_mixtures("scp", path=path, root=tmp_path)
    np.testing.assert_array_equal(mixtures.read(1).sources[0], written["s1", "second"])
    with pytest.raises(FileNotFoundError) as caught:
        open_mixtures("scp", path=path)
    missing = tmp_path / "lists" / "audio" / "mix" / "first.wav"
    assert str(caught.value).startswith(f"{missing}: no such file, but {path}, line 1, refers to it; relative")
    assert str(caught.value).endswith(f"{tmp_path / 'lists'}; set root to change this")


def test_mixtures_with_equal_file_names_get_ids_with_folders(tmp_path, write_audio_files, write_list):
    write_audio_files(tmp_path, ["call1", "call2"], ["mix", "a", "b"])
    text = "".join(f"{call}/mix.wav {call}/a.wav {call}/b.wav\n" for call in ("call1", "call2"))
    mixtures = open_mixtures("scp", path=write_list("tr.scp", text))
    assert [mixtures.mixture_id(index) for index in range(2)] == ["call1_mix", "call2_mix"]


@pytest.mark.parametrize(
    ("line", "num_sources", "num_paths"),
    [
        ("audio/mix/first.wav audio/s1/first.wav", 2, 2),
        ("my audio/mix.wav audio/s1/first.wav audio/s2/first.wav", 2, 4),
        ("audio/mix/first.wav audio/s1/first.wav audio/s2/first.wav 1.5", 3, 3),
        ("audio/mix/first.wav audio/s1/first.wav audio/s2/first.wav audio/s1/first.wav", 2, 4),
    ],
)
def test_the_error_names_a_wrong_scp_line(write_list, line, num_sources, num_paths):
    path = write_list("tr.scp", f"\n{line}\n")
    with pytest.raises(
        ValueError, match="sources and optionally a duration; for paths with spaces use layout='csv'"
    ) as caught:
        open_mixtures("scp", path=path, num_sources=num_sources)
    expected = (
        f"{path}, line 2: has {num_paths} fields separated by spaces; must be a mixture, num_sources={num_sources}"
    )
    assert str(caught.value).startswith(expected)


def test_csv_with_all_columns(write_list, written):
    mixtures = open_mixtures("csv", path=write_list("tr.csv", CSV))
    assert (len(mixtures), mixtures.num_sources, mixtures.sample_rate) == (2, 2, 8000)
    for index, name in enumerate(NAMES):
        read = mixtures.read(index)
        assert (read.id, read.speakers) == (f"{name}-id", ("ann", "bob"))
        np.testing.assert_array_equal(read.mixture, written["mix", name])
        np.testing.assert_array_equal(read.sources, [written["s1", name], written["s2", name]])
        np.testing.assert_array_equal(read.noise, written["noise", name])


def test_csv_with_only_sources_is_mixed(write_list, written):
    text = "source_2,source_1\naudio/s2/first.wav,audio/s1/second.wav\n"
    mixtures = open_mixtures("csv", path=write_list("tr.csv", text))
    read = mixtures.read(0)
    assert (read.id, read.mixture, read.noise, read.speakers) == ("second_first", None, None, ())
    assert mixtures.num_samples(0) == 300
    np.testing.assert_array_equal(read.mixed(), written["s1", "second"] + written["s2", "first"])


def test_csv_with_empty_optional_cells(write_list, written):
    text = CSV.replace("audio/noise/first.wav,ann", ",").replace("audio/mix/first.wav", "").replace("first-id", "")
    mixtures = open_mixtures("csv", path=write_list("tr.csv", text))
    read = mixtures.read(0)
    assert (read.id, read.mixture, read.noise, read.speakers) == ("first_first", None, None, ())
    assert mixtures.read(1).speakers == ("ann", "bob")


def test_csv_of_spreadsheets_with_spaces_and_commas_in_paths(tmp_path, write_audio_files, write_list):
    write_audio_files(tmp_path, ["a, b"], ["x y", "z"])
    text = '\ufeffsource_1,source_2\r\n"a, b/x y.wav", "a, b/z.wav"\r\n'
    mixtures = open_mixtures("csv", path=write_list("tr.csv", text, encoding="utf-8", newline=""))
    assert mixtures.read(0).id == "x y_z"


def test_lists_with_one_and_three_sources(write_list):
    one = open_mixtures("csv", path=write_list("one.csv", "mixture,source_1\naudio/mix/first.wav,audio/s1/first.wav\n"))
    assert one.read(0).sources.shape == (1, 300)
    text = "source_1,source_2,source_3\naudio/s1/first.wav,audio/s2/first.wav,audio/mix/first.wav\n"
    assert open_mixtures("csv", path=write_list("three.csv", text)).read(0).sources.shape == (3, 300)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column source_1; its first line must name the columns: source_1, mixture, noise, id"),
        ("mixture,noise\na,b\n", "has no column source_1"),
        ("mixture;source_1\n", "its columns are separated by semicolons"),
        ('"mixture";"source_1"\n"a";"b"\n', "its columns are separated by semicolons"),
        ("mixure,source_1\n", "has an unknown column 'mixure'; did you mean 'mixture'?"),
        ("source_1,source_3\n", "has an unknown column 'source_3'; did you mean 'source_2'?"),
        ("source_1,source_2,speaker_3\n", "has an unknown column 'speaker_3'"),
        ("source_1,source_2\n", "lists no mixtures; write one per line"),
        ("source_1,source_2\na\n", "line 2: has 1 cells for 2 columns: 'a'; put cells"),
        ("source_1,source_2\na,b\na,\n", "line 3: source_2 is empty; every source needs a path"),
        ("source_1,source_2\na,b,c\n", "line 2: has 3 cells for 2 columns: 'a', 'b', 'c'"),
        ("source_1,source_1\na,b\n", "has the column source_1 more than once"),
        ("mixture,mixture,source_1\na,b,c\n", "has the column mixture more than once"),
        ('source_1\na\n"b\nc\n', "line 3: cannot be read as CSV .unexpected end of data.; check its double quotes"),
        ("id,source_1\nx,a\ny,b\nx,c\n", "line 4: repeats the mixture 'x' of line 2;"),
        ("source_1\na.wav\na.wav\n", "line 3: repeats the mixture 'a' of line 2;"),
    ],
)
def test_csv_errors(write_list, text, message):
    path = write_list("tr.csv", text)
    with pytest.raises(ValueError, match=f"^{path}.*{message.replace('?', '[?]')}"):
        open_mixtures("csv", path=path)


def test_a_file_that_fails_to_open_once_is_replaced_in_training(tmp_path, write_list, monkeypatch):
    write_audio(tmp_path / "a.wav", np.ones(50) / 2, 100)
    write_audio(tmp_path / "b.wav", np.ones(50) / 4, 100)
    path = write_list("tr.csv", f"source_1,source_2\n{tmp_path}/a.wav,{tmp_path}/b.wav\n")
    mixtures = open_mixtures("csv", path=path, sample_rate=100)
    soundfile_file, failures = soundfile.SoundFile, iter([soundfile.LibsndfileError(2)])

    def open_or_fail(*arguments, **options):
        for failure in failures:
            raise failure
        return soundfile_file(*arguments, **options)

    monkeypatch.setattr(soundfile, "SoundFile", open_or_fail)
    with pytest.raises(ValueError, match=r"a\.wav: could not be read at first \(.*\), but now it can; try again"):
        mixtures.read(0)
    assert mixtures.read(0).sources.shape == (2, 50)


@pytest.mark.parametrize("layout", ["scp", "csv"])
def test_a_missing_or_binary_list_is_an_error(tmp_path, layout):
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}: no such file; set path to the list of mixtures"):
        open_mixtures(layout, path=tmp_path)
    (tmp_path / "tr").write_bytes(b"source_1\n\xff\xfe")
    with pytest.raises(ValueError, match="tr: is not text in UTF-8"):
        open_mixtures(layout, path=tmp_path / "tr")


def test_an_empty_scp_list_is_an_error(write_list):
    with pytest.raises(ValueError, match="lists no mixture"):
        open_mixtures("scp", path=write_list("tr.scp", "\n\n"))


def test_an_scp_list_without_sources_is_an_error(write_list):
    with pytest.raises(ValueError, match="num_sources=0 is not allowed: must be 1 or more"):
        open_mixtures("scp", path=write_list("tr.scp", "audio/mix/first.wav\n"), num_sources=0)


def test_every_crop_of_a_damaged_file_gives_the_same_message(tmp_path, write_audio_files):
    write_audio_files(tmp_path, ["s1"], ["a"], num_samples=20_000, suffix=".flac")
    path = tmp_path / "s1" / "a.flac"
    path.write_bytes(path.read_bytes()[:15_000])
    (tmp_path / "list.csv").write_text("source_1\ns1/a.flac\n")
    mixtures = open_mixtures("csv", path=tmp_path / "list.csv")
    messages = set()
    for crop in ((0, None), (16_000, 500), (19_000, 900)):
        with pytest.raises(ValueError, match=f"^{path}: is damaged or cut short") as caught:
            mixtures.read(0, *crop)
        messages.add(str(caught.value))
    assert len(messages) == 1


def test_the_sample_rate_is_checked_when_a_file_is_read(write_list):
    mixtures = open_mixtures("csv", path=write_list("tr.csv", CSV), sample_rate=16000)
    with pytest.raises(ValueError, match=r"mix/first\.wav: has a sample rate of 8000 Hz, but sample_rate=16000"):
        mixtures.num_samples(0)


@pytest.mark.parametrize(("layout", "text"), [("scp", SCP), ("csv", CSV)])
def test_a_pickled_list_reads_the_same(write_list, layout, text):
    mixtures = open_mixtures(layout, path=os.path.relpath(write_list("list", text)))
    expected, read = mixtures.read(1, 50, 100), pickle.loads(pickle.dumps(mixtures)).read(1, 50, 100)
    np.testing.assert_array_equal(read.mixture, expected.mixture)
    np.testing.assert_array_equal(read.sources, expected.sources)


@pytest.mark.parametrize(("separator", "name"), [(";", "semicolons"), ("\t", "tabs")])
def test_a_csv_file_with_other_separators_is_named_as_such(tmp_path, separator, name):
    """CSV as spreadsheet programs write it in locales with a decimal comma."""
    lines = (f"id{separator}source_1{separator}source_2", f"a{separator}a.wav{separator}b.wav")
    (tmp_path / "a.csv").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=rf"a\.csv: its columns are separated by {name}; separate them by commas"):
        open_mixtures("csv", path=tmp_path / "a.csv")
