"""Speech files with speaker labels."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import soundfile

from mossformer_jax.audio.resampling import resample
from mossformer_jax.data.training_mixtures import open_utterances
from mossformer_jax.data.utterances import Utterances

RATE = 8000


def write(path, num_samples=800, rate=RATE, channels=1, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.1 * np.random.default_rng(seed).standard_normal((num_samples, channels))
    soundfile.write(path, samples, rate)
    return soundfile.read(path, dtype="float32")[0]


@pytest.fixture
def tree(tmp_path):
    """A small LibriSpeech: two speakers in one split, one in another."""
    for count, name in enumerate(
        ("a/19/198/19-198-0001", "a/19/227/19-227-0000", "a/26/495/26-495-0000", "b/8/1/8-1-0")
    ):
        write(tmp_path / f"{name}.flac", 800 + 10 * count, seed=count)
    return tmp_path


def test_a_level_of_the_path_names_the_speaker(tree):
    last = Utterances.from_folder(tree, sample_rate=RATE, speaker_level=-3)
    assert last.speaker_names == ("19", "26", "8")
    assert [last.speaker_names[number] for number in last.speakers] == ["19", "19", "26", "8"]
    assert Utterances.from_folder(tree, sample_rate=RATE, speaker_level=0).speaker_names == ("a", "b")
    assert Utterances.from_folder(tree, sample_rate=RATE).speaker_names == ("1", "198", "227", "495")


def test_librispeech_is_opened_by_split(tree):
    assert Utterances.from_librispeech(tree, sample_rate=RATE, splits=["a"]).speaker_names == ("19", "26")
    both = Utterances.from_librispeech(tree, sample_rate=RATE, splits=("a", "b"))
    assert (len(both), both.speaker_names) == (4, ("19", "26", "8"))
    with pytest.raises(FileNotFoundError, match=r"train-clean-100: no such folder; download train-clean-100\.tar\.gz"):
        Utterances.from_librispeech(tree, sample_rate=RATE)


def test_files_are_opened_only_when_needed(tree, monkeypatch):
    opened = []
    monkeypatch.setattr(soundfile, "SoundFile", lambda path: opened.append(path) or pytest.fail("opened a file"))
    Utterances.from_folder(tree, sample_rate=RATE)
    assert not opened


def test_a_crop_equals_a_slice_of_the_whole_utterance(tmp_path):
    whole = write(tmp_path / "s/u.flac", 5000)
    speech = Utterances.from_folder(tmp_path, sample_rate=RATE)
    assert speech.num_samples(0) == 5000
    np.testing.assert_array_equal(speech.read(0), whole)
    np.testing.assert_array_equal(speech.read(0, 1234, 800), whole[1234:2034])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(speech)).read(0, 4999, 1), whole[4999:])


def test_other_rates_are_resampled_and_channels_averaged(tmp_path):
    whole = write(tmp_path / "s/u.wav", 44100, rate=44100, channels=2)
    speech = Utterances.from_folder(tmp_path, sample_rate=RATE)
    expected = resample(whole.mean(axis=1), 44100, RATE)
    assert speech.num_samples(0) == len(expected) == RATE
    np.testing.assert_array_equal(speech.read(0), expected)
    # Sample 2000 is exactly sample 11025 of the file, but the filter has no samples from outside the crop.
    crop = speech.read(0, 2000, 1000)
    assert crop.shape == (1000,)
    error = (crop - expected[2000:3000])[100:-100]
    assert np.linalg.norm(error) < 1e-3 * np.linalg.norm(expected[2000:3000])
    assert speech.read(0, RATE - 10, 10).shape == (10,)


def test_a_rounded_up_length_can_be_read(tmp_path):
    whole = write(tmp_path / "s/u.wav", 1001, rate=16000)
    speech = Utterances.from_folder(tmp_path, sample_rate=RATE)
    assert speech.num_samples(0) == 501
    np.testing.assert_array_equal(speech.read(0), resample(whole, 16000, RATE))
    assert speech.read(0, 401, 100).shape == (100,)


def test_a_written_manifest_is_read_without_opening_audio_files(tree, tmp_path, monkeypatch):
    speech = Utterances.from_folder(tree, sample_rate=RATE, speaker_level=-3)
    speech.write_manifest(tmp_path / "all.csv")
    again = Utterances.from_manifest(tmp_path / "all.csv", sample_rate=RATE)
    monkeypatch.setattr(soundfile, "SoundFile", lambda path: pytest.fail("opened a file"))
    assert [again.num_samples(index) for index in range(4)] == [800, 810, 820, 830]
    assert again.speaker_names == speech.speaker_names
    assert Utterances.from_manifest(tmp_path / "all.csv", sample_rate=4000).num_samples(1) == 405


def test_a_failed_write_keeps_the_old_manifest(tree, tmp_path):
    (tmp_path / "b/8/1/8-1-1.flac").write_text("no audio")
    (tmp_path / "m.csv").write_text("older")
    with pytest.raises(ValueError, match=r"8-1-1\.flac: cannot be read as audio"):
        Utterances.from_folder(tree, sample_rate=RATE).write_manifest(tmp_path / "m.csv")
    assert (tmp_path / "m.csv").read_text() == "older"
    assert not list(tmp_path.glob(".m.csv*"))


def test_a_single_suffix_in_any_case_is_accepted(tmp_path):
    for name in ("s/a.wav", "s/b.FLAC", "s/c.mp3", "s/d.flac"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for suffixes in (".flac", ".FLAC", [".Flac"]):
        speech = Utterances.from_folder(tmp_path, sample_rate=RATE, suffixes=suffixes)
        assert [speech.name(index) for index in range(len(speech))] == ["b", "d"]


def test_the_error_names_a_folder_without_speech(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        Utterances.from_folder(tmp_path / "nowhere", sample_rate=RATE)
    with pytest.raises(ValueError, match=r"contains no file ending in \.flac or \.wav"):
        Utterances.from_folder(tmp_path, sample_rate=RATE)
    write(tmp_path / "u.wav")
    with pytest.raises(ValueError, match=r"u\.wav: speaker_level=-2 is not allowed: its path below .* has 1 part\(s\)"):
        Utterances.from_folder(tmp_path, sample_rate=RATE)


def test_errors_name_the_file(tmp_path):
    whole = tmp_path / "s" / "whole.flac"
    write(whole, 80000)
    (tmp_path / "s" / "cut.flac").write_bytes(whole.read_bytes()[:40000])
    (tmp_path / "s" / "text.flac").write_text("no audio")
    soundfile.write(tmp_path / "s" / "nan.wav", np.array([0.0, np.nan]), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "s" / "none.wav", np.zeros(0), RATE)
    speech = Utterances.from_folder(tmp_path, sample_rate=RATE)
    index = {speech.name(number): number for number in range(len(speech))}
    with pytest.raises(ValueError, match=r"cut\.flac: is damaged or cut short"):
        speech.read(index["cut"], 70000, 10000)
    with pytest.raises(ValueError, match=r"text\.flac: cannot be read as audio"):
        speech.num_samples(index["text"])
    with pytest.raises(ValueError, match=r"nan\.wav: contains NaN or infinity"):
        speech.read(index["nan"])
    with pytest.raises(ValueError, match=r"none\.wav: contains no audio"):
        speech.num_samples(index["none"])
    whole.unlink()
    with pytest.raises(FileNotFoundError, match=r"whole\.flac: no such file"):
        speech.read(index["whole"])


def test_a_manifest_length_beyond_the_file_is_an_error(tmp_path):
    write(tmp_path / "1.wav", 800)
    (tmp_path / "m.csv").write_text("path,speaker,num_samples\n1.wav,anna,900\n")
    speech = Utterances.from_manifest(tmp_path / "m.csv", sample_rate=RATE)
    for crop in ((700, 200), (600, 250), (850, 10)):
        with pytest.raises(ValueError, match=r"1\.wav: has 800 samples at 8000 Hz, fewer than expected; copy it again"):
            speech.read(0, *crop)


def test_recordings_with_other_suffixes_are_reported(tmp_path, caplog):
    write(tmp_path / "s" / "a.wav", 100)
    for name in ("b.mp3", "c.m4a", "notes.txt", ".d.m4a"):
        (tmp_path / "s" / name).touch()
    assert len(Utterances.from_folder(tmp_path, sample_rate=RATE)) == 1
    (message,) = caplog.messages
    assert message.endswith(f"are not used: {tmp_path / 's' / 'b.mp3'} and 1 more")
    assert "2 files look like recordings but do not end in .flac or .wav" in message


def test_every_crop_of_a_damaged_file_gives_the_same_message(tmp_path):
    path = tmp_path / "s" / "u.flac"
    write(path, 80000)
    content = path.read_bytes()
    for damaged in (content[:40000], content[:40000] + bytes(len(content) - 40000)):
        path.write_bytes(damaged)
        messages = set()
        for start in (45000, 60000, 70000):
            with pytest.raises(ValueError, match=f"^{path}: is damaged or cut short") as caught:
                Utterances.from_folder(tmp_path, sample_rate=RATE).read(0, start, 1000 + start // 10)
            messages.add(str(caught.value))
        assert len(messages) == 1


def test_a_corpus_is_opened_by_name(tree):
    speech = open_utterances("librispeech", root=tree, splits=("a",), sample_rate=RATE)
    assert len(speech) == 3
    with pytest.raises(ValueError, match=r"corpus 'librispech' is unknown; did you mean 'librispeech'"):
        open_utterances("librispech", root=tree)
    with pytest.raises(ValueError, match=r"corpus 'folder' has no option 'speaker_lvl'; did you mean 'speaker_level'"):
        open_utterances("folder", root=tree, sample_rate=RATE, speaker_lvl=1)
    with pytest.raises(ValueError, match=r"corpus 'folder' needs the option 'sample_rate'"):
        open_utterances("folder", root=tree)


def test_real_speech_can_be_read(libri2mix_samples):
    manifest = libri2mix_samples.parent / "speech8k" / "manifest.csv"
    if not manifest.is_file():
        pytest.skip(f"no {manifest}")
    speech = Utterances.from_manifest(manifest, sample_rate=RATE, split="dev")
    assert len(speech.speaker_names) == 27
    for index in range(0, len(speech), 20):
        assert len(speech.read(index)) == speech.num_samples(index)
