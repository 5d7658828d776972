from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mossformer_jax.data.prepare import main as prepare
from mossformer_jax.data.records import Mixture

tfds = pytest.importorskip("tensorflow_datasets")

from mossformer_jax.data.libri2mix import Libri2Mix, Libri3Mix, TfdsMixtures, builder  # noqa: E402

STEP = 2.0**-15


class Noises:
    """Mixtures of noise with 16-bit values and different lengths."""

    sample_rate = 8000

    def __init__(self, num_mixtures: int, num_sources: int = 2, with_noise: bool = False, missing: int | None = None):
        self.num_mixtures, self.num_sources = num_mixtures, num_sources
        self.with_noise, self.missing = with_noise, missing

    def __len__(self) -> int:
        return self.num_mixtures

    def mixture_id(self, index: int) -> str:
        return f"mixture-{index}"

    def num_samples(self, index: int) -> int:
        return 1000 + index

    def read(self, index: int, start: int = 0, num_samples: int | None = None) -> Mixture:
        if index == self.missing:
            raise FileNotFoundError(f"{index}.wav: no such file")
        rng = np.random.default_rng(index)
        steps = rng.integers(-8000, 8000, (self.num_sources + 1, self.num_samples(index)))
        *sources, noise = (steps * STEP).astype(np.float32)
        return Mixture(
            id=self.mixture_id(index),
            sources=np.stack(sources),
            sample_rate=8000,
            noise=noise if self.with_noise else None,
            speakers=tuple(f"{index}-{k}" for k in range(self.num_sources)),
        )


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    """A TFDS folder with Libri2Mix and Libri3Mix, prepared from noise."""
    folder = tmp_path_factory.mktemp("tfds")
    noisy = {"train-360": Noises(7, with_noise=True), "dev": Noises(2, with_noise=True)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builder, "_MIXTURES_PER_SHARD", 3)
        Libri2Mix(config="8k_min_both", data_dir=folder, mixtures=noisy).download_and_prepare()
    Libri3Mix(config="8k_min_clean", data_dir=folder, mixtures={"test": Noises(2, 3)}).download_and_prepare()
    return folder


def test_prepared_mixtures_are_read_back_exactly_and_in_order(data_dir):
    written = Noises(7, with_noise=True)
    mixtures = TfdsMixtures("libri2mix/8k_min_both", "train-360", data_dir)
    assert len(mixtures) == 7
    assert (mixtures.num_sources, mixtures.sample_rate) == (2, 8000)
    for index in range(7):
        mixture, expected = mixtures.read(index), written.read(index)
        assert mixture.id == mixtures.mixture_id(index) == expected.id
        assert mixture.speakers == expected.speakers
        assert mixtures.num_samples(index) == mixture.sources.shape[1] == 1000 + index
        np.testing.assert_array_equal(mixture.sources, expected.sources)
        np.testing.assert_array_equal(mixture.noise, expected.noise)
        np.testing.assert_array_equal(mixture.mixed(), np.clip(expected.mixed(), -1, 1 - STEP))
        assert mixture.sources.dtype == mixture.mixed().dtype == np.float32


def test_three_speakers_without_noise(data_dir):
    mixtures = TfdsMixtures("libri3mix/8k_min_clean", "test", data_dir)
    assert mixtures.num_sources == 3
    assert mixtures.read(1).noise is None
    np.testing.assert_array_equal(mixtures.read(1).sources, Noises(2, 3).read(1).sources)


def test_tfds_reads_the_same_mixtures(data_dir):
    records = tfds.data_source("libri2mix/8k_min_both", split="train-360", data_dir=data_dir)
    record = records[4]
    assert record["mixture"].dtype == np.int16
    np.testing.assert_array_equal(record["sources"] * STEP, Noises(7).read(4).sources)
    assert len(tfds.data_source("libri2mix/8k_min_both", split="train-360[:5]", data_dir=data_dir)) == 5


def test_crops_equal_slices_and_readers_can_be_pickled(data_dir):
    mixtures = TfdsMixtures("libri2mix/8k_min_both", "train-360", data_dir)
    whole = mixtures.read(3)
    crop = pickle.loads(pickle.dumps(mixtures)).read(3, 100, 50)
    np.testing.assert_array_equal(crop.sources, whole.sources[:, 100:150])
    np.testing.assert_array_equal(crop.mixed(), whole.mixed()[100:150])
    np.testing.assert_array_equal(mixtures.read(3, 990, 50).noise, whole.noise[990:])
    with pytest.raises(ValueError, match="mixture-3: start=1003, num_samples=None is out of range for 1003 samples"):
        mixtures.read(3, 1003)


def test_unprepared_or_unknown_data_sets_are_errors(data_dir):
    with pytest.raises(FileNotFoundError, match=r"8k_max_clean.*: not prepared; run python -m mossformer_jax\.data"):
        TfdsMixtures("libri2mix/8k_max_clean", "dev", data_dir)
    with pytest.raises(ValueError, match="split='train' is not allowed: must be 'dev' or 'train-360'"):
        TfdsMixtures("libri2mix/8k_min_both", "train", data_dir)
    for name in ("libri2mix/44k", "librimix/8k_min_clean"):
        with pytest.raises(
            ValueError, match=f"name='{name}' is not allowed: .*; use a name such as libri2mix/8k_min_clean"
        ):
            TfdsMixtures(name, "dev", data_dir)


def test_a_failed_preparation_leaves_no_files(tmp_path):
    failing = Libri2Mix(config="8k_min_clean", data_dir=tmp_path, mixtures={"dev": Noises(4, missing=2)})
    with pytest.raises(FileNotFoundError, match=r"2\.wav: no such file"):
        failing.download_and_prepare()
    assert not list(tmp_path.rglob("*array_record*"))


@pytest.mark.medium
def test_tensorflow_is_not_imported(data_dir):
    code = f"""
import sys
from mossformer_jax.data.libri2mix import TfdsMixtures
TfdsMixtures("libri2mix/8k_min_both", "dev", {str(data_dir)!r}).read(0)
assert "tensorflow" not in sys.modules and "jax" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture(scope="module")
def librispeech(tmp_path_factory) -> Path:
    """A manual folder with LibriSpeech's dev-clean and LibriMix's metadata for one mixture."""
    root = tmp_path_factory.mktemp("manual")
    names = ["84-121123-0000", "174-50561-0000"]
    row = ["_".join(names)]
    for name in names:
        speaker, chapter, _ = name.split("-")
        path = Path("dev-clean") / speaker / chapter / f"{name}.flac"
        (root / "LibriSpeech" / path).parent.mkdir(parents=True)
        samples = np.random.default_rng(len(row)).uniform(-0.4, 0.4, 8001)
        soundfile.write(root / "LibriSpeech" / path, samples, 16000)
        row += [str(path), "0.9"]
    header = "mixture_ID,source_1_path,source_1_gain,source_2_path,source_2_gain"
    (root / "metadata" / "Libri2Mix").mkdir(parents=True)
    (root / "metadata" / "Libri2Mix" / "libri2mix_dev-clean.csv").write_text(f"{header}\n{','.join(row)}\n")
    return root


def _command(name: str, data_dir: Path, *options: str) -> int:
    return prepare([name, "--data-dir", str(data_dir), *map(str, options)])


def test_the_command_gives_equal_data_from_librispeech_and_from_a_tree(librispeech, tmp_path, capsys):
    speech = ["--librispeech", librispeech, "--metadata", librispeech / "metadata" / "Libri2Mix"]
    assert _command("libri2mix/8k_min_clean", tmp_path / "a", *speech) == 0
    assert "dev: 1 mixtures, 0.0 h" in capsys.readouterr().out
    mixture = TfdsMixtures("libri2mix/8k_min_clean", "dev", tmp_path / "a").read(0)
    assert mixture.speakers == ("84", "174")
    for name, signal in {"mix_clean": mixture.mixture, "s1": mixture.sources[0], "s2": mixture.sources[1]}.items():
        folder = tmp_path / "Libri2Mix" / "wav8k" / "min" / "dev" / name
        folder.mkdir(parents=True)
        soundfile.write(folder / f"{mixture.id}.wav", signal, 8000)
    assert _command("libri2mix/8k_min_clean", tmp_path / "b", "--librimix", tmp_path, "--splits", "dev") == 0
    copy = TfdsMixtures("libri2mix/8k_min_clean", "dev", tmp_path / "b").read(0)
    assert copy.id == mixture.id
    assert copy.speakers == mixture.speakers
    np.testing.assert_array_equal(copy.mixture, mixture.mixture)
    np.testing.assert_array_equal(copy.sources, mixture.sources)
    record = _data_source(manual_dir=tmp_path, data_dir=tmp_path / "c")[0]
    np.testing.assert_array_equal(record["sources"] * STEP, mixture.sources)


def _data_source(manual_dir: Path, data_dir: Path):
    config = tfds.download.DownloadConfig(manual_dir=manual_dir)
    kwargs = {"download_and_prepare_kwargs": {"download_config": config}}
    return tfds.data_source("libri2mix/8k_min_clean", split="dev", data_dir=data_dir, **kwargs)


def test_the_data_set_is_prepared_from_the_manual_folder(librispeech, tmp_path):
    record = _data_source(manual_dir=librispeech, data_dir=tmp_path)[0]
    assert record["id"] == b"84-121123-0000_174-50561-0000"
    assert record["sources"].shape == (2, 4001)


def test_error_messages_of_the_command(librispeech, data_dir, tmp_path, capsys):
    def error(name: str, *options) -> str:
        assert _command(name, tmp_path, *options) == 1
        return capsys.readouterr().err

    speech = ["--librispeech", librispeech, "--metadata", librispeech / "metadata" / "Libri2Mix"]
    assert "data set='wsj0' is not allowed: must be 'libri2mix' or 'libri3mix'" in error("wsj0/8k_min_clean")
    assert "config='8k' is not allowed: must be '8k_min_clean'" in error("libri2mix/8k")
    assert "give either librimix" in error("libri2mix/8k_min_clean")
    assert "give either librimix" in error("libri2mix/8k_min_clean", *speech[:2])
    assert "needs noise" in error("libri2mix/8k_min_both", *speech)
    assert "split='tt' is not allowed" in error("libri2mix/8k_min_clean", *speech, "--splits", "tt")
    assert "libri2mix_test-clean.csv: no such file" in error("libri2mix/8k_min_clean", *speech, "--splits", "test")
    assert "contains none of the splits" in error("libri3mix/8k_min_clean", *speech)
    assert "contains none of the splits" in error("libri2mix/8k_min_clean", "--librimix", tmp_path)


def test_a_prepared_data_set_is_replaced_only_with_overwrite(librispeech, tmp_path, capsys):
    speech = ["--librispeech", librispeech, "--metadata", librispeech / "metadata" / "Libri2Mix"]
    Libri2Mix(config="8k_min_clean", data_dir=tmp_path, mixtures={"test": Noises(2)}).download_and_prepare()
    assert _command("libri2mix/8k_min_clean", tmp_path, *speech) == 1
    assert "already exists; use --overwrite" in capsys.readouterr().err
    assert _command("libri2mix/8k_min_clean", tmp_path, *speech, "--overwrite") == 0
    assert len(TfdsMixtures("libri2mix/8k_min_clean", "dev", tmp_path)) == 1
    assert set(tfds.builder("libri2mix/8k_min_clean", data_dir=tmp_path).info.metadata) == {"dev"}
    with pytest.raises(ValueError, match="split='test' is not allowed: must be 'dev'"):
        TfdsMixtures("libri2mix/8k_min_clean", "test", tmp_path)


def test_a_failed_replacement_keeps_the_old_data_set(librispeech, tmp_path, capsys, monkeypatch):
    Libri2Mix(config="8k_min_clean", data_dir=tmp_path, mixtures={"test": Noises(2)}).download_and_prepare()
    folders = sorted(path.name for path in (tmp_path / "libri2mix" / "8k_min_clean").iterdir())

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(Libri2Mix, "download_and_prepare", fail)
    speech = ["--librispeech", librispeech, "--metadata", librispeech / "metadata" / "Libri2Mix"]
    assert _command("libri2mix/8k_min_clean", tmp_path, *speech, "--overwrite") == 1
    assert "disk full" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "libri2mix" / "8k_min_clean").iterdir()) == folders
    assert len(TfdsMixtures("libri2mix/8k_min_clean", "test", tmp_path)) == 2


def test_a_data_set_moved_by_a_killed_preparation_is_restored(librispeech, tmp_path, capsys):
    Libri2Mix(config="8k_min_clean", data_dir=tmp_path, mixtures={"test": Noises(2)}).download_and_prepare()
    (folder,) = (tmp_path / "libri2mix" / "8k_min_clean").iterdir()
    folder.rename(folder.with_name(f"{folder.name}.replaced"))
    speech = ["--librispeech", librispeech, "--metadata", librispeech / "metadata" / "Libri2Mix"]
    assert _command("libri2mix/8k_min_clean", tmp_path, *speech) == 1
    assert "already exists; use --overwrite" in capsys.readouterr().err
    assert len(TfdsMixtures("libri2mix/8k_min_clean", "test", tmp_path)) == 2


def test_the_error_names_a_damaged_record(tmp_path):
    Libri2Mix(config="8k_min_clean", data_dir=tmp_path, mixtures={"test": Noises(2)}).download_and_prepare()
    mixtures = TfdsMixtures("libri2mix/8k_min_clean", "test", tmp_path)
    (shard,) = tmp_path.glob("**/*.array_record*")
    with shard.open("rb+") as file:
        file.truncate(5000)
    with pytest.raises(ValueError, match=r"cannot be read .*; prepare the data set again with --overwrite"):
        mixtures.read(1)
