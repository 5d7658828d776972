"""Data sets with one folder per signal and the same file names in each: LibriMix, WSJ0-mix, WHAM!, WHAMR!."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mossformer_jax.data.layouts.files import FileMixtures
from mossformer_jax.data.layouts.options import check_choice
from mossformer_jax.data.layouts.signal_folders import open_signal_folders

# One match per utterance, such as 4077-13754-0001 or 050a0501_1.7783; the first group is the speaker.
_LIBRISPEECH_UTTERANCE = re.compile(r"(\d+)-\d+-\d+")
_WSJ0_UTTERANCE = re.compile(r"([0-9a-z]{3})[0-9a-z]{5}_-?[0-9.]+", re.IGNORECASE)

_NO_UTTERANCE = re.compile(r"(?!)")  # matches nowhere

_GET_LIBRIMIX = (
    "generate it with LibriMix's generate_librimix.sh, or mix from plain LibriSpeech with layout='librispeech_mix'"
)
_GET_WSJ0MIX = "generate it from WSJ0 (LDC93S6A) with MERL's create-speaker-mixtures scripts"
_GET_WHAM = (
    "generate it from WSJ0 (LDC93S6A) and the wham_noise download with wham_scripts' create_wham_from_scratch.py"
)
_GET_WHAMR = (
    "generate it from WSJ0 (LDC93S6A) and the wham_noise download with whamr_scripts' create_wham_from_scratch.py"
)


def folders(
    root: str | os.PathLike[str],
    split: str = "",
    num_sources: int = 2,
    sample_rate: int = 8000,
    noise: bool = False,
) -> FileMixtures:
    """Opens folders of any data set with the same file names in each: `{split}/{mix,s1,s2[,s3...][,noise]}/ID.wav`.

    Args:
        root: the folder of the data set.
        split: the folder of the split inside `root`; empty: the root itself.
        num_sources: number of sources per mixture, 1 or more.
        sample_rate: sample rate of every file in Hz.
        noise: whether the mixtures contain noise, which is in the folder noise.

    Returns:
        The mixtures, sorted by name. Speakers are not known.

    Raises:
        ValueError, FileNotFoundError: as `librimix`.
    """
    if num_sources < 1:
        raise ValueError(f"num_sources={num_sources!r} is not allowed: must be 1 or more")
    return open_signal_folders(
        Path(root),
        Path(root) / split,
        mixture="mix",
        sources=_sources(num_sources),
        noise="noise" if noise else None,
        not_there=f"s{num_sources + 1}",
        sample_rate=sample_rate,
        utterance=_NO_UTTERANCE,
        advice="put mixtures into mix and sources into s1, s2, ..., or list them in a file with layout='csv'",
    )


def librimix(
    root: str | os.PathLike[str],
    split: str,
    num_sources: int = 2,
    sample_rate: int = 8000,
    mode: str = "min",
    task: str = "mix_clean",
) -> FileMixtures:
    """Opens a split of LibriMix: `wav{8k,16k}/{min,max}/{split}/{task,s1,s2[,s3],noise}/ID.wav`.

    Args:
        root: the folder `Libri{2,3}Mix`, or its parent.
        split: train-360, train-100, dev or test.
        num_sources: number of speakers per mixture, 2 or 3.
        sample_rate: 8000 or 16000 Hz.
        mode: min (cut to the shortest source) or max (padded to the longest source).
        task: mix_clean (only the speakers), mix_both (with noise) or mix_single (the first speaker with noise).

    Returns:
        The mixtures, sorted by name, with noise if the task includes it.

    Raises:
        ValueError: a value is not allowed, the split is empty, or its folders do not have the same file names.
        FileNotFoundError: a folder is missing.
    """
    check_choice("num_sources", num_sources, (2, 3))
    check_choice("task", task, ("mix_clean", "mix_both", "mix_single"))
    inside = Path(root) / f"Libri{num_sources}Mix"
    return open_signal_folders(
        Path(root),
        (inside if inside.is_dir() else Path(root)) / _rate_and_mode(sample_rate, mode) / split,
        mixture=task,
        sources=_sources(1 if task == "mix_single" else num_sources),
        noise=None if task == "mix_clean" else "noise",
        not_there=None if task == "mix_single" else f"s{num_sources + 1}",
        sample_rate=sample_rate,
        utterance=_LIBRISPEECH_UTTERANCE,
        advice=_GET_LIBRIMIX,
    )


def wsj0mix(
    root: str | os.PathLike[str], split: str, num_sources: int = 2, sample_rate: int = 8000, mode: str = "min"
) -> FileMixtures:
    """Opens a split of WSJ0-2mix or WSJ0-3mix: `wav{8k,16k}/{min,max}/{split}/{mix,s1,s2[,s3]}/ID.wav`.

    Args:
        root: the folder `{2,3}speakers`, or its parent.
        split: tr, cv or tt.
        num_sources: number of speakers per mixture, 2 or 3.
        sample_rate: 8000 or 16000 Hz.
        mode: min (cut to the shortest source) or max (padded to the longest source).

    Returns:
        The mixtures, sorted by name.

    Raises:
        ValueError, FileNotFoundError: as `librimix`.
    """
    check_choice("num_sources", num_sources, (2, 3))
    inside = Path(root) / f"{num_sources}speakers"
    return open_signal_folders(
        Path(root),
        (inside if inside.is_dir() else Path(root)) / _rate_and_mode(sample_rate, mode) / split,
        mixture="mix",
        sources=_sources(num_sources),
        not_there=f"s{num_sources + 1}",
        sample_rate=sample_rate,
        utterance=_WSJ0_UTTERANCE,
        advice=_GET_WSJ0MIX,
    )


def wham(
    root: str | os.PathLike[str], split: str, sample_rate: int = 8000, mode: str = "min", task: str = "mix_both"
) -> FileMixtures:
    """Opens a split of WHAM!: `wav{8k,16k}/{min,max}/{split}/{task,s1,s2,noise}/ID.wav`.

    Args:
        root: the folder that contains `wav8k` or `wav16k`.
        split: tr, cv or tt.
        sample_rate: 8000 or 16000 Hz.
        mode: min (cut to the shortest source) or max (padded to the longest source).
        task: mix_both (two speakers with noise), mix_clean (no noise) or mix_single (the first speaker with noise).

    Returns:
        The mixtures, sorted by name, with noise if the task includes it.

    Raises:
        ValueError, FileNotFoundError: as `librimix`.
    """
    check_choice("task", task, ("mix_both", "mix_clean", "mix_single"))
    return open_signal_folders(
        Path(root),
        Path(root) / _rate_and_mode(sample_rate, mode) / split,
        mixture=task,
        sources=_sources(1 if task == "mix_single" else 2),
        noise=None if task == "mix_clean" else "noise",
        sample_rate=sample_rate,
        utterance=_WSJ0_UTTERANCE,
        advice=_GET_WHAM,
    )


def whamr(
    root: str | os.PathLike[str],
    split: str,
    sample_rate: int = 8000,
    mode: str = "min",
    task: str = "mix_both_reverb",
    targets: str = "anechoic",
) -> FileMixtures:
    """Opens a split of WHAMR!: `wav{8k,16k}/{min,max}/{split}/{task,s1_TARGETS,s2_TARGETS,noise}/ID.wav`.

    By default the mixtures are reverberant and the targets anechoic (joint separation and dereverberation). The sources
    and the noise then do not add up to the mixture.

    Args:
        root: the folder that contains `wav8k` or `wav16k`.
        split: tr, cv or tt.
        sample_rate: 8000 or 16000 Hz.
        mode: min (cut to the shortest source) or max (padded to the longest source).
        task: mix_both, mix_clean or mix_single, as in `wham`, followed by _reverb or _anechoic.
        targets: the sources to return, anechoic or reverb. Anechoic mixtures only have anechoic sources.

    Returns:
        The mixtures, sorted by name, with noise if the task includes it.

    Raises:
        ValueError, FileNotFoundError: as `librimix`.
    """
    contents = ("mix_both", "mix_clean", "mix_single")
    check_choice("task", task, [f"{content}_{room}" for room in ("reverb", "anechoic") for content in contents])
    check_choice("targets", targets, ("anechoic",) if task.endswith("_anechoic") else ("anechoic", "reverb"))
    return open_signal_folders(
        Path(root),
        Path(root) / _rate_and_mode(sample_rate, mode) / split,
        mixture=task,
        sources=[f"{source}_{targets}" for source in _sources(1 if task.startswith("mix_single") else 2)],
        noise=None if task.startswith("mix_clean") else "noise",
        sample_rate=sample_rate,
        utterance=_WSJ0_UTTERANCE,
        advice=_GET_WHAMR,
    )


def _sources(count: int) -> list[str]:
    return [f"s{number}" for number in range(1, count + 1)]


def _rate_and_mode(sample_rate: int, mode: str) -> Path:
    check_choice("sample_rate", sample_rate, (8000, 16000))
    check_choice("mode", mode, ("min", "max"))
    return Path(f"wav{sample_rate // 1000}k", mode)
