"""LibriMix, WSJ0-mix, WHAM! and WHAMR!: reading, and errors for missing files."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from mossformer_jax.data.layouts import open_mixtures

LIBRISPEECH_IDS = ("4077-13754-0001_5142-33396-0065", "6930-76324-0027_5683-32879-0011")
WSJ0_IDS = ("050a0501_1.7783_442o030z_-1.7783", "22go010b_0.5_053o0207_-0.5")
WHAMR_SIGNALS = [
    *(f"mix_{content}_{room}" for content in ("both", "clean", "single") for room in ("anechoic", "reverb")),
    *(f"s{source}_{room}" for source in (1, 2) for room in ("anechoic", "reverb")),
    "noise",
]


def _check(mixtures, written, ids, *, mixture, sources, noise, speakers):
    """Checks that every mixture equals the files in the folders of these names."""
    assert (len(mixtures), mixtures.num_sources, mixtures.sample_rate) == (len(ids), len(sources), 8000)
    for index, name in enumerate(ids):
        read = mixtures.read(index)
        assert (mixtures.mixture_id(index), mixtures.num_samples(index)) == (name, 300)
        assert (read.id, read.sample_rate, read.speakers) == (name, 8000, speakers[index])
        np.testing.assert_array_equal(read.mixture, written[mixture, name])
        np.testing.assert_array_equal(read.sources, [written[source, name] for source in sources])
        if noise:
            np.testing.assert_array_equal(read.noise, written["noise", name])
        else:
            assert read.noise is None
        assert read.mixture.dtype == read.sources.dtype == np.float32


@pytest.fixture
def librimix(tmp_path, write_audio_files):
    """A Libri2Mix with one split of two mixtures; returns its root, the folder of the split, and the samples."""
    folder = tmp_path / "Libri2Mix" / "wav8k" / "min" / "train-360"
    signals = ["mix_clean", "mix_both", "mix_single", "s1", "s2", "noise"]
    return tmp_path / "Libri2Mix", folder, write_audio_files(folder, signals, LIBRISPEECH_IDS)


@pytest.mark.parametrize("task", ["mix_clean", "mix_both", "mix_single"])
@pytest.mark.parametrize("from_parent", [False, True])
def test_librimix_tasks(librimix, task, from_parent):
    root, _, written = librimix
    mixtures = open_mixtures("librimix", root=str(root.parent if from_parent else root), split="train-360", task=task)
    sources = ["s1"] if task == "mix_single" else ["s1", "s2"]
    speakers = [pair[: len(sources)] for pair in [("4077", "5142"), ("6930", "5683")]]
    _check(
        mixtures, written, LIBRISPEECH_IDS,
        mixture=task, sources=sources, noise=task != "mix_clean", speakers=speakers,
    )  # fmt: skip


def test_librimix_of_three_speakers(tmp_path, write_audio_files):
    ids = ["4077-13754-0001_5142-33396-0065_5683-32866-0012"]
    folder = tmp_path / "Libri3Mix" / "wav8k" / "max" / "test"
    written = write_audio_files(folder, ["mix_clean", "s1", "s2", "s3"], ids)
    mixtures = open_mixtures("librimix", root=tmp_path, split="test", num_sources=3, mode="max")
    _check(
        mixtures, written, ids,
        mixture="mix_clean", sources=["s1", "s2", "s3"], noise=False, speakers=[("4077", "5142", "5683")],
    )  # fmt: skip


@pytest.mark.parametrize("split", ["train", ""])
def test_folders_of_any_data_set(tmp_path, write_audio_files, split):
    written = write_audio_files(tmp_path / split, ["mix", "s1", "s2", "s3", "noise"], ["b", "a"], sample_rate=16000)
    mixtures = open_mixtures("folders", root=tmp_path, split=split, num_sources=3, sample_rate=16000, noise=True)
    assert len(mixtures) == 2
    mixture = mixtures.read(0)
    assert mixture.id == "a"
    for s in range(3):
        np.testing.assert_array_equal(mixture.sources[s], written[f"s{s + 1}", "a"])
    np.testing.assert_array_equal(mixture.mixture, written["mix", "a"])
    np.testing.assert_array_equal(mixture.noise, written["noise", "a"])
    with pytest.raises(ValueError, match=r"s3: exists, so there are more than num_sources=2 sources"):
        open_mixtures("folders", root=tmp_path, split=split, sample_rate=16000)


def test_the_sample_rate_selects_the_folder(tmp_path, write_audio_files):
    folder = tmp_path / "wav16k" / "min" / "dev"
    write_audio_files(folder, ["mix_clean", "s1", "s2"], LIBRISPEECH_IDS, sample_rate=16000, suffix=".flac")
    mixtures = open_mixtures("librimix", root=tmp_path, split="dev", sample_rate=16000)
    assert (mixtures.sample_rate, mixtures.read(1).sample_rate, mixtures.mixture_id(1)) == (
        16000,
        16000,
        LIBRISPEECH_IDS[1],
    )


@pytest.mark.parametrize("from_parent", [False, True])
@pytest.mark.parametrize("num_sources", [2, 3])
def test_wsj0mix(tmp_path, write_audio_files, num_sources, from_parent):
    ids = WSJ0_IDS if num_sources == 2 else ["050a0501_1.7783_442o030z_-1.7783_01ga0103_0"]
    speakers = [("050", "442"), ("22g", "053")] if num_sources == 2 else [("050", "442", "01g")]
    sources = ["s1", "s2", "s3"][:num_sources]
    root = tmp_path / f"{num_sources}speakers"
    written = write_audio_files(root / "wav8k" / "min" / "tr", ["mix", *sources], ids)
    mixtures = open_mixtures("wsj0mix", root=tmp_path if from_parent else root, split="tr", num_sources=num_sources)
    _check(mixtures, written, ids, mixture="mix", sources=sources, noise=False, speakers=speakers)


@pytest.mark.parametrize("task", ["mix_both", "mix_clean", "mix_single"])
def test_wham_tasks(tmp_path, write_audio_files, task):
    signals = ["mix_both", "mix_clean", "mix_single", "s1", "s2", "noise"]
    written = write_audio_files(tmp_path / "wav8k" / "min" / "cv", signals, WSJ0_IDS)
    sources = ["s1"] if task == "mix_single" else ["s1", "s2"]
    _check(
        open_mixtures("wham", root=tmp_path, split="cv", task=task), written, WSJ0_IDS,
        mixture=task, sources=sources, noise=task != "mix_clean",
        speakers=[pair[: len(sources)] for pair in [("050", "442"), ("22g", "053")]],
    )  # fmt: skip


@pytest.fixture
def whamr(tmp_path, write_audio_files):
    return tmp_path, write_audio_files(tmp_path / "wav8k" / "min" / "tt", WHAMR_SIGNALS, WSJ0_IDS)


@pytest.mark.parametrize(
    ("options", "mixture", "sources", "noise"),
    [
        ({}, "mix_both_reverb", ["s1_anechoic", "s2_anechoic"], True),
        ({"targets": "reverb"}, "mix_both_reverb", ["s1_reverb", "s2_reverb"], True),
        ({"task": "mix_clean_anechoic"}, "mix_clean_anechoic", ["s1_anechoic", "s2_anechoic"], False),
        ({"task": "mix_single_reverb"}, "mix_single_reverb", ["s1_anechoic"], True),
    ],
)
def test_whamr_tasks(whamr, options, mixture, sources, noise):
    root, written = whamr
    _check(
        open_mixtures("whamr", root=root, split="tt", **options), written, WSJ0_IDS,
        mixture=mixture, sources=sources, noise=noise,
        speakers=[pair[: len(sources)] for pair in [("050", "442"), ("22g", "053")]],
    )  # fmt: skip


def test_speakers_are_empty_if_the_file_names_do_not_contain_them(tmp_path, write_audio_files):
    names = ["first_and_second", "050a0501_1.7783_somebody"]
    write_audio_files(tmp_path / "wav8k" / "min" / "tr", ["mix", "s1", "s2"], names)
    mixtures = open_mixtures("wsj0mix", root=tmp_path, split="tr")
    assert [mixtures.read(index).speakers for index in range(2)] == [(), ()]


def test_other_files_are_ignored(librimix):
    root, folder, _ = librimix
    (folder / "mix_clean" / "._4077.wav").write_bytes(b"left by a copying program")
    (folder / "s1" / "list.txt").write_text("a note")
    assert len(open_mixtures("librimix", root=root, split="train-360")) == 2


@pytest.mark.parametrize(
    ("layout", "advice"),
    [
        ("librimix", "generate_librimix.sh, or mix from plain LibriSpeech with layout='librispeech_mix'"),
        ("wsj0mix", "with MERL's create-speaker-mixtures scripts"),
        ("wham", "wham_noise download with wham_scripts' create_wham_from_scratch.py"),
        ("whamr", "wham_noise download with whamr_scripts' create_wham_from_scratch.py"),
    ],
)
def test_a_missing_data_set_is_an_error(tmp_path, layout, advice):
    with pytest.raises(FileNotFoundError) as caught:
        open_mixtures(layout, root=tmp_path / "nowhere", split="tr")
    assert str(caught.value).startswith(f"{tmp_path / 'nowhere'}: no such folder; set root to the folder")
    assert str(caught.value).endswith(advice)


def test_the_error_for_a_missing_split_lists_existing_folders(librimix):
    root, folder, _ = librimix
    with pytest.raises(FileNotFoundError) as caught:
        open_mixtures("librimix", root=root, split="train-100")
    assert f"min/train-100/mix_clean: no such folder; {folder.parent} contains train-360; generate it" in str(
        caught.value
    )
    with pytest.raises(FileNotFoundError, match="Libri2Mix contains wav8k; generate it"):
        open_mixtures("librimix", root=root, split="train-360", sample_rate=16000)


@pytest.mark.parametrize(("task", "signal"), [("mix_both", "mix_both"), ("mix_clean", "s2"), ("mix_both", "noise")])
def test_the_error_names_a_missing_folder(librimix, task, signal):
    root, folder, _ = librimix
    shutil.rmtree(folder / signal)
    with pytest.raises(FileNotFoundError, match=f"train-360/{signal}: no such folder; .*train-360 contains mix_"):
        open_mixtures("librimix", root=root, split="train-360", task=task)


def test_clean_mixtures_need_no_noise_folder(librimix):
    root, folder, _ = librimix
    shutil.rmtree(folder / "noise")
    assert open_mixtures("librimix", root=root, split="train-360").read(0).noise is None


def test_an_empty_split_is_an_error(librimix):
    root, folder, _ = librimix
    for path in folder.glob("mix_clean/*"):
        path.unlink()
    with pytest.raises(ValueError, match=r"train-360/mix_clean: contains no \.wav or \.flac file; generate it"):
        open_mixtures("librimix", root=root, split="train-360")


@pytest.mark.parametrize(("lacking", "having"), [("s2", "mix_clean"), ("mix_clean", "s1")])
def test_folders_with_different_file_names_are_an_error(librimix, lacking, having):
    root, folder, _ = librimix
    (folder / lacking / f"{LIBRISPEECH_IDS[1]}.wav").unlink()
    with pytest.raises(ValueError, match="differ; generate or copy the split again") as caught:
        open_mixtures("librimix", root=root, split="train-360")
    expected = f"{folder / lacking}: has no {LIBRISPEECH_IDS[1]}.wav, but {folder / having} has; 1 file name(s) differ"
    assert expected in str(caught.value)


def test_opening_three_speakers_as_two_is_an_error(tmp_path, write_audio_files):
    signals = ["mix_clean", "mix_single", "s1", "s2", "s3", "noise"]
    write_audio_files(tmp_path / "wav8k" / "min" / "dev", signals, LIBRISPEECH_IDS)
    with pytest.raises(ValueError, match="dev/s3: exists, so there are more than num_sources=2 sources"):
        open_mixtures("librimix", root=tmp_path, split="dev")
    assert open_mixtures("librimix", root=tmp_path, split="dev", task="mix_single").num_sources == 1


@pytest.mark.parametrize(
    ("layout", "options", "message"),
    [
        ("librimix", {"num_sources": 4}, "num_sources=4 is not allowed: must be 2 or 3"),
        ("librimix", {"task": "mix"}, "task='mix' is not allowed: must be 'mix_clean' or 'mix_both' or 'mix_single'"),
        ("wsj0mix", {"sample_rate": 44100}, "sample_rate=44100 is not allowed: must be 8000 or 16000"),
        ("wsj0mix", {"num_sources": 5}, "num_sources=5 is not allowed"),
        ("wham", {"mode": "mean"}, "mode='mean' is not allowed: must be 'min' or 'max'"),
        ("wham", {"task": "mix_both_reverb"}, "task='mix_both_reverb' is not allowed: must be 'mix_both' or"),
        ("whamr", {"task": "mix_both"}, "task='mix_both' is not allowed: must be 'mix_both_reverb' or"),
        ("whamr", {"targets": "dry"}, "targets='dry' is not allowed: must be 'anechoic' or 'reverb'"),
        ("whamr", {"task": "mix_both_anechoic", "targets": "reverb"}, "targets='reverb' is not allowed"),
    ],
)
def test_values_that_are_not_allowed_are_errors(tmp_path, layout, options, message):
    with pytest.raises(ValueError, match=message):
        open_mixtures(layout, root=tmp_path, split="tr", **options)


def test_opening_a_split_reads_no_audio(tmp_path):
    ids = [f"{number}-1-1_{number}-2-2" for number in range(1000)]
    for signal in ("mix_clean", "s1", "s2"):
        folder = tmp_path / "wav8k" / "min" / "train-360" / signal
        folder.mkdir(parents=True)
        for name in ids:
            (folder / f"{name}.wav").touch()  # empty, so opening one would fail
    mixtures = open_mixtures("librimix", root=tmp_path, split="train-360")
    assert [mixtures.mixture_id(index) for index in range(len(mixtures))] == sorted(ids)
