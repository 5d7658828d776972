from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from scipy.signal import resample_poly

from mossformer_jax.data.librispeech_mix import LibriSpeechMixtures

REPOSITORY = Path(__file__).parents[2]
ONE_STEP = 2.0**-15
# Odd lengths test the rounding of halves. One noise file is longer than all utterances, one must be extended twice.
SAMPLES = {"3536-8226-0026": 14401, "1673-143397-0009": 20801, "777-126732-0053": 27200}
NOISE_SAMPLES = {"20oo0109_0.72115_01ua010r_-0.72115": 40000, "405c021b_1.9146_012a010t_-1.9146": 15001}
ROWS = {
    2: [
        ("3536-8226-0026", 0.7925878276419455, "1673-143397-0009", 0.2142791008161834),
        ("1673-143397-0009", 1.7873396761715588, "777-126732-0053", 0.8724482145623508),
    ],
    3: [
        ("777-126732-0053", 0.7354752354920545, "3536-8226-0026", 0.56, "1673-143397-0009", 0.5852776763488975),
        ("3536-8226-0026", 1.12889897272322, "777-126732-0053", 0.53, "1673-143397-0009", 0.6532402518977201),
    ],
}


@pytest.fixture(scope="module")
def corpora(tmp_path_factory) -> Path:
    """A folder with very small versions of LibriSpeech, wham_noise and the metadata, as unpacked."""
    root = tmp_path_factory.mktemp("corpora")
    rng = np.random.default_rng(0)
    for name, num_samples in SAMPLES.items():
        path = _utterance(root / "LibriSpeech", name)
        path.parent.mkdir(parents=True)
        soundfile.write(path, 0.4 * _coloured(rng, num_samples), 16000)
    (root / "wham_noise" / "cv").mkdir(parents=True)
    for name, num_samples in NOISE_SAMPLES.items():
        channels = [0.2 * _coloured(rng, num_samples) for _ in range(2)]
        soundfile.write(root / "wham_noise" / "cv" / f"{name}.wav", np.stack(channels, axis=1), 16000)
    for num_sources, rows in ROWS.items():
        _write_metadata(root / f"libri{num_sources}mix_dev-clean.csv", rows)
    return root


def _coloured(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Noise with most of its power below 4 kHz, as in speech, peak 1."""
    noise = np.convolve(rng.standard_normal(num_samples), np.hanning(8), mode="same")
    return noise / np.abs(noise).max()


def _utterance(librispeech: Path, name: str) -> Path:
    speaker, chapter, _ = name.split("-")
    return librispeech / "dev-clean" / speaker / chapter / f"{name}.flac"


def _write_metadata(path: Path, rows: list[tuple]) -> None:
    num_sources = len(rows[0]) // 2
    header = [f"source_{k + 1}_{what}" for k in range(num_sources) for what in ("path", "gain")]
    lines = [",".join(["mixture_ID", *header, "noise_path", "noise_gain"])]
    for row, noise in zip(rows, NOISE_SAMPLES, strict=True):
        cells = ["_".join(row[::2])]
        for name, gain in zip(row[::2], row[1::2], strict=True):
            cells += [str(_utterance(Path(), name)), str(gain)]
        lines.append(",".join([*cells, f"cv/{noise}.wav", "1.1114428047969456"]))
    path.write_text("\n".join(lines) + "\n")


def _generate(root: Path, row: tuple, noise_name: str, rate: int, mode: str, task: str, folder: Path) -> dict:
    """The steps of LibriMix's generation script for one mixture; returns int16 signals."""
    sources = [soundfile.read(_utterance(root / "LibriSpeech", name), dtype="float32")[0] for name in row[::2]]
    longest = max(map(len, sources))
    noise = soundfile.read(root / "wham_noise" / "cv" / f"{noise_name}.wav", dtype="float32", stop=longest)[0][:, 0]
    original, rise = noise, np.hanning(16001)[:8001]
    while len(noise) < longest:
        joint = noise[-8001:] * rise[::-1] + original[:8001] * rise
        noise = np.concatenate((noise[:-8001], joint, original[8001:]))
    signals = [*sources, noise[:longest]]
    gains = [*row[1::2], 1.1114428047969456]
    signals = [resample_poly(signal * gain, rate, 16000) for signal, gain in zip(signals, gains, strict=True)]
    lengths = [len(signal) for signal in signals]
    length = min(lengths) if mode == "min" else max(lengths)
    signals = [np.pad(signal[:length], (0, max(0, length - len(signal)))) for signal in signals]
    summed = {"mix_clean": signals[:-1], "mix_both": signals, "mix_single": [signals[0], signals[-1]]}[task]
    written = {f"s{k + 1}": signal for k, signal in enumerate(signals[:-1])}
    written |= {"noise": signals[-1], "mixture": np.sum(summed, axis=0)}
    for name, signal in written.items():
        soundfile.write(folder / f"{name}.wav", signal, rate)
    return {name: soundfile.read(folder / f"{name}.wav")[0] for name in written}


@pytest.fixture
def open_corpora(corpora):
    def opened(num_sources: int = 2, **options) -> LibriSpeechMixtures:
        metadata = corpora / f"libri{num_sources}mix_dev-clean.csv"
        return LibriSpeechMixtures(corpora, metadata, corpora, **options)

    return opened


@pytest.mark.parametrize("num_sources", [2, 3])
@pytest.mark.parametrize("task", ["mix_clean", "mix_both", "mix_single"])
@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("rate", [8000, 16000])
def test_mixtures_equal_the_files_of_the_generation_script(
    corpora, open_corpora, tmp_path, num_sources, task, mode, rate
):
    mixtures = open_corpora(num_sources, sample_rate=rate, mode=mode, task=task)
    assert len(mixtures) == len(ROWS[num_sources])
    assert mixtures.num_sources == (1 if task == "mix_single" else num_sources)
    for index, (row, noise_name) in enumerate(zip(ROWS[num_sources], NOISE_SAMPLES, strict=True)):
        files = _generate(corpora, row, noise_name, rate, mode, task, tmp_path)
        mixture = mixtures.read(index)
        assert mixtures.num_samples(index) == len(files["mixture"]) == mixture.sources.shape[1]
        # One step, because the files round down; 1e-7, because the noise is float64 in the script and float32 here.
        close = {"rtol": 0, "atol": ONE_STEP + 1e-6}
        np.testing.assert_allclose(mixture.mixed(), files["mixture"], **close)
        for k in range(mixtures.num_sources):
            np.testing.assert_allclose(mixture.sources[k], files[f"s{k + 1}"], **close)
        if task == "mix_clean":
            assert mixture.noise is None
        else:
            np.testing.assert_allclose(mixture.noise, files["noise"], **close)


def test_a_mixture_has_its_id_and_dtypes(open_corpora):
    mixtures = open_corpora(3, task="mix_both")
    mixture = mixtures.read(0)
    assert mixture.id == mixtures.mixture_id(0) == "777-126732-0053_3536-8226-0026_1673-143397-0009"
    assert mixture.speakers == ("777", "3536", "1673")
    assert mixture.sample_rate == mixtures.sample_rate == 8000
    assert {array.dtype for array in (mixture.sources, mixture.noise, mixture.mixture)} == {np.dtype(np.float32)}


def test_a_loud_mixture_is_clipped_as_in_its_file(corpora, tmp_path):
    _write_metadata(tmp_path / "loud.csv", [(*row[:1], 9.0, *row[2:]) for row in ROWS[2]])
    mixture = LibriSpeechMixtures(corpora, tmp_path / "loud.csv").read(0)
    assert mixture.mixture.max() == mixture.sources.max() == 1 - ONE_STEP
    assert mixture.mixture.min() == mixture.sources.min() == -1


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("rate", [8000, 16000])
def test_crops_equal_slices_of_the_whole_mixture(open_corpora, mode, rate):
    mixtures = open_corpora(task="mix_both", mode=mode, sample_rate=rate)
    for index in range(len(mixtures)):
        whole = mixtures.read(index)
        length = whole.sources.shape[1]
        for start, num_samples in [(0, 1), (7, 2000), (length - 1201, 1000), (length - 50, 400), (length - 1, None)]:
            crop = mixtures.read(index, start, num_samples)
            stop = length if num_samples is None else start + num_samples
            np.testing.assert_array_equal(crop.sources, whole.sources[:, start:stop])
            np.testing.assert_array_equal(crop.noise, whole.noise[start:stop])
            np.testing.assert_array_equal(crop.mixed(), whole.mixed()[start:stop])


@pytest.mark.parametrize(("start", "num_samples"), [(-1, None), (7201, 1), (0, 0)])
def test_a_crop_outside_the_mixture_is_an_error(open_corpora, start, num_samples):
    with pytest.raises(ValueError, match=f"start={start}, num_samples={num_samples} is out of range for 7201 samples"):
        open_corpora().read(0, start, num_samples)


def test_clean_mixtures_need_no_noise_files(corpora):
    metadata = corpora / "libri2mix_dev-clean.csv"
    assert LibriSpeechMixtures(corpora / "LibriSpeech", metadata).read(0).noise is None
    with pytest.raises(ValueError, match="task='mix_both' needs noise: set noise to the wham_noise folder"):
        LibriSpeechMixtures(corpora, metadata, task="mix_both")


def test_missing_noise_at_another_speed_is_resampled(corpora, tmp_path):
    noise_name = "20oo0109_0.72115_01ua010r_-0.72115"
    metadata = (corpora / "libri2mix_dev-clean.csv").read_text().replace(noise_name, f"{noise_name}sp12")
    (tmp_path / "fast.csv").write_text(metadata)
    mixtures = LibriSpeechMixtures(corpora, tmp_path / "fast.csv", corpora, sample_rate=16000, task="mix_both")
    original, _ = soundfile.read(corpora / "wham_noise" / "cv" / f"{noise_name}.wav")
    faster = 1.1114428047969456 * soxr.resample(original[:, 0], 1.2, 1.0)
    noise = mixtures.read(0).noise
    # The same band-limited signal from two settings of the same resampler.
    np.testing.assert_allclose(noise, faster[: len(noise)], rtol=0, atol=1e-4)


def test_readers_can_be_pickled(open_corpora):
    mixtures = open_corpora(task="mix_both")
    copy = pickle.loads(pickle.dumps(mixtures))
    np.testing.assert_array_equal(copy.read(1).mixed(), mixtures.read(1).mixed())


def test_missing_folders_are_named_on_opening(corpora, tmp_path):
    metadata = corpora / "libri2mix_dev-clean.csv"
    with pytest.raises(FileNotFoundError, match=r"dev-clean: no such folder, .*unpack LibriSpeech there \(OpenSLR"):
        LibriSpeechMixtures(tmp_path, metadata)
    with pytest.raises(FileNotFoundError, match=r"cv: no such folder, .*unpack wham_noise there"):
        LibriSpeechMixtures(corpora, metadata, tmp_path, task="mix_both")
    with pytest.raises(FileNotFoundError, match=r"none\.csv: no such file; give one of the CSVs"):
        LibriSpeechMixtures(corpora, tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("utterance_id,loudness\nx,1\n", r"metadata\.csv: has the columns utterance_id, loudness; LibriMix's"),
        ("", r"has the columns \(empty\)"),
        ("mixture_ID,source_1_path,source_1_gain\n", "no rows below its header"),
        (
            "mixture_ID,source_1_path,source_1_gain\na,b/c.flac,loud\n",
            r"line 2: source_1_path='b/c.flac', .*'loud'",
        ),
        ("mixture_ID,source_1_path,source_1_gain\na,,1\n", r"metadata\.csv, line 2: source_1_path='', .*'1'"),
        ("mixture_ID,source_1_path,source_1_gain\na,b/c.flac,nan\n", r"line 2: source_1_path='b/c.flac', .*'nan'"),
        ("mixture_ID,source_1_path,source_1_gain\na,b/c.flac,inf\n", r"line 2: source_1_path='b/c.flac', .*'inf'"),
    ],
)
def test_other_metadata_than_librimix_are_an_error(corpora, tmp_path, text, message):
    (tmp_path / "metadata.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        LibriSpeechMixtures(corpora, tmp_path / "metadata.csv")


@pytest.mark.parametrize(
    "options", [{"sample_rate": 44100}, {"mode": "mean"}, {"task": "mix_loud"}], ids=lambda options: next(iter(options))
)
def test_errors_of_unknown_options_list_the_allowed_values(corpora, options):
    with pytest.raises(ValueError, match=r"is not allowed: must be (8000 or 16000|'min' or 'max'|'mix_clean' or)"):
        LibriSpeechMixtures(corpora, corpora / "libri2mix_dev-clean.csv", **options)


def test_bad_files_are_named_on_reading(corpora, tmp_path, rng):
    (tmp_path / "dev-clean").mkdir()
    mixtures = LibriSpeechMixtures(tmp_path, corpora / "libri2mix_dev-clean.csv")
    path, other = (_utterance(tmp_path, name) for name in list(SAMPLES)[:2])
    other.parent.mkdir(parents=True)
    soundfile.write(other, 0.1 * rng.standard_normal(64000), 16000)
    with pytest.raises(FileNotFoundError, match=r"3536-8226-0026\.flac: no such file, .*unpack LibriSpeech"):
        mixtures.read(0)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no audio")
    with pytest.raises(ValueError, match=r"3536-8226-0026\.flac: cannot be read as audio"):
        mixtures.num_samples(0)
    soundfile.write(path, 0.1 * rng.standard_normal(4000), 8000)
    with pytest.raises(ValueError, match=r"has 4000 samples at 8000 Hz; must be non-empty, at 16000 Hz"):
        mixtures.read(0)
    soundfile.write(path, 0.1 * rng.standard_normal(64000), 16000)
    path.write_bytes(path.read_bytes()[:20000])
    with pytest.raises(ValueError, match=r"3536-8226-0026\.flac: is (damaged|cut short)"):
        mixtures.read(0, start=0)


@pytest.mark.parametrize(
    ("name", "num_sources"), [("libri2mix_dev-clean", 2), ("libri2mix_test-clean", 2), ("libri3mix_test-clean", 3)]
)
def test_the_real_metadata_can_be_read(tmp_path, name, num_sources):
    root = Path(os.environ.get("MOSSFORMER_JAX_DATA", REPOSITORY.parent / "shared" / "data"))
    metadata = root / "librimix_metadata" / f"{name}.head.csv"
    if not metadata.is_file():
        pytest.skip(f"no {metadata} (set MOSSFORMER_JAX_DATA to the folder that holds librimix_metadata)")
    for folder in ("dev-clean", "test-clean", "cv", "tt"):
        (tmp_path / folder).mkdir()
    mixtures = LibriSpeechMixtures(tmp_path, metadata, tmp_path, task="mix_both")
    assert len(mixtures) == 40
    assert mixtures.num_sources == num_sources
    with pytest.raises(FileNotFoundError, match=mixtures.mixture_id(0).partition("_")[0]):
        mixtures.read(0)
