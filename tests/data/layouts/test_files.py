"""Reading mixtures from files: crops, pickling, damaged and inconsistent files."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import soundfile

from mossformer_jax.audio.opening import AudioFile
from mossformer_jax.data.layouts import files, open_mixtures

NAME = "4077-13754-0001_5142-33396-0065"


@pytest.fixture
def folder(tmp_path, write_audio_files):
    folder = tmp_path / "wav8k" / "min" / "dev"
    write_audio_files(folder, ["mix_both", "s1", "s2", "noise"], [NAME])
    return folder


@pytest.fixture
def mixtures(tmp_path, folder):
    return open_mixtures("librimix", root=tmp_path, split="dev", task="mix_both")


def _assert_equal(one, other):
    assert (one.id, one.speakers, one.sample_rate) == (other.id, other.speakers, other.sample_rate)
    np.testing.assert_array_equal(one.mixture, other.mixture)
    np.testing.assert_array_equal(one.sources, other.sources)
    np.testing.assert_array_equal(one.noise, other.noise)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
@pytest.mark.parametrize(("start", "num_samples"), [(0, 1), (0, 5000), (4321, 999), (8000, 50_000), (9999, None)])
def test_crops_equal_slices_of_the_whole_mixture(tmp_path, write_audio_files, suffix, start, num_samples):
    folder = tmp_path / "wav8k" / "min" / "test"  # long enough for several FLAC blocks
    write_audio_files(folder, ["mix_both", "s1", "s2", "noise"], [NAME], num_samples=10_000, suffix=suffix)
    mixtures = open_mixtures("librimix", root=tmp_path, split="test", task="mix_both")
    whole, crop = mixtures.read(0), mixtures.read(0, start, num_samples)
    stop = None if num_samples is None else start + num_samples
    np.testing.assert_array_equal(crop.mixture, whole.mixture[start:stop])
    np.testing.assert_array_equal(crop.sources, whole.sources[:, start:stop])
    np.testing.assert_array_equal(crop.noise, whole.noise[start:stop])


def test_a_pickled_data_set_reads_the_same(mixtures):
    _assert_equal(pickle.loads(pickle.dumps(mixtures)).read(0, 10, 20), mixtures.read(0, 10, 20))


@pytest.mark.parametrize(("start", "num_samples"), [(300, 1), (-1, 10), (0, 0), (0, -1)])
def test_a_crop_outside_the_mixture_is_an_error(mixtures, start, num_samples):
    with pytest.raises(ValueError, match=f"start={start}, num_samples={num_samples} is out of range for 300 samples"):
        mixtures.read(0, start, num_samples)


def test_each_file_is_opened_once_per_crop_and_once_for_the_length(mixtures, monkeypatch):
    opened = []
    monkeypatch.setattr(files, "AudioFile", lambda path: opened.append(path) or AudioFile(path))
    for _ in range(3):
        assert mixtures.num_samples(0) == len(mixtures.read(0).mixture)
    assert len(opened) == 1 + 3 * 4


@pytest.mark.parametrize("signal", ["mix_both", "s2", "noise"])
def test_the_error_names_a_missing_file(mixtures, folder, signal):
    (folder / signal / f"{NAME}.wav").unlink()
    with pytest.raises(FileNotFoundError, match=rf"{signal}/{NAME}\.wav: no such file"):
        mixtures.read(0)


def test_the_length_of_a_missing_or_empty_file_is_an_error(mixtures, folder):
    path = folder / "mix_both" / f"{NAME}.wav"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"wav: is empty \(0 bytes\)"):
        mixtures.num_samples(0)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"wav: no such file"):
        mixtures.num_samples(0)


def test_the_error_names_a_file_that_is_not_audio(mixtures, folder):
    (folder / "s1" / f"{NAME}.wav").write_bytes(b"not audio at all")
    with pytest.raises(ValueError, match=rf"s1/{NAME}\.wav: cannot be read as audio"):
        mixtures.read(0)


def _overwrite(folder, waveform, sample_rate=8000, **options):
    soundfile.write(folder / "s2" / f"{NAME}.wav", waveform, sample_rate, **options)


def test_the_error_names_a_file_without_samples(mixtures, folder):
    _overwrite(folder, np.zeros(0))
    with pytest.raises(ValueError, match=rf"s2/{NAME}\.wav: contains no audio"):
        mixtures.read(0)


def test_the_error_names_a_file_of_different_length(mixtures, folder):
    _overwrite(folder, np.zeros(299))
    with pytest.raises(ValueError, match=rf"s2/{NAME}\.wav: has 299 samples, but .*mix_both/{NAME}\.wav has 300"):
        mixtures.read(0, 0, 10)


def test_the_error_names_a_file_with_another_sample_rate(mixtures, folder):
    _overwrite(folder, np.zeros(300), sample_rate=16000)
    with pytest.raises(ValueError, match=rf"s2/{NAME}\.wav: has a sample rate of 16000 Hz, but sample_rate=8000"):
        mixtures.read(0)


def test_the_error_names_a_stereo_file(mixtures, folder):
    _overwrite(folder, np.zeros((300, 2)))
    with pytest.raises(ValueError, match=rf"s2/{NAME}\.wav: has 2 channels; must have one"):
        mixtures.read(0)


def test_the_error_gives_the_position_of_nan(mixtures, folder):
    waveform = np.zeros(300)
    waveform[123] = np.nan
    _overwrite(folder, waveform, subtype="FLOAT")
    with pytest.raises(ValueError, match="contains NaN or infinity, first at sample 123"):
        mixtures.read(0, 100, 50)
    mixtures.read(0, 200)


@pytest.mark.parametrize("damage", ["cut", "zeros"])
def test_the_error_names_a_damaged_flac_file(tmp_path, write_audio_files, damage):
    folder = tmp_path / "wav8k" / "min" / "test"
    write_audio_files(folder, ["mix_clean", "s1", "s2"], [NAME], num_samples=20_000, suffix=".flac")
    path = folder / "s1" / f"{NAME}.flac"
    content = path.read_bytes()
    path.write_bytes(content[:15_000] + (bytes(len(content) - 15_000) if damage == "zeros" else b""))
    mixtures = open_mixtures("librimix", root=tmp_path, split="test")
    with pytest.raises(ValueError, match=rf"s1/{NAME}\.flac: is damaged or cut short: ") as whole:
        mixtures.read(0)
    with pytest.raises(ValueError, match=r"is damaged") as crop:
        mixtures.read(0, 19_000, 500)
    assert str(crop.value) == str(whole.value)  # so that a file is counted only once


def test_the_error_names_an_mp3_shorter_than_declared(tmp_path, write_audio_files):
    write_audio_files(tmp_path, ["s1"], ["a"], num_samples=20_000, suffix=".mp3")
    path = tmp_path / "s1" / "a.mp3"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (tmp_path / "list.csv").write_text("source_1\ns1/a.mp3\n")
    mixtures = open_mixtures("csv", path=tmp_path / "list.csv")
    assert mixtures.num_samples(0) == 20_000
    with pytest.raises(ValueError, match=r"a\.mp3: is damaged or cut short: fewer samples than its header"):
        mixtures.read(0)
