"""TFDS builders that write LibriMix as array_record files."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.utils import tqdm

from mossformer_jax.data.layouts.options import check_choice
from mossformer_jax.data.layouts.trees import librimix as open_librimix
from mossformer_jax.data.librispeech_mix import MODES, SAMPLE_RATES, TASKS, LibriSpeechMixtures
from mossformer_jax.data.records import MixtureSource

# LibriMix's split names, and the LibriSpeech subsets that name the metadata files and speech folders.
SUBSETS = {"train-360": "train-clean-360", "train-100": "train-clean-100", "dev": "dev-clean", "test": "test-clean"}

# TFDS keeps a shard in memory until it is written: about 150 MB at 8 kHz.
_MIXTURES_PER_SHARD = 256
_DESCRIPTION = """\
LibriMix: mixtures of two or three speakers of LibriSpeech (English read speech), clean or with noise from WHAM!.

All signals are 16-bit audio: `mixture` (t,), the true `sources` (c, t) and, in noisy mixtures, `noise` (t,). Up to
rounding, the mixture is the sum of the sources and the noise.
"""
_CITATION = """\
@article{cosentino2020librimix,
  title={LibriMix: An Open-Source Dataset for Generalizable Speech Separation},
  author={Cosentino, Joris and Pariente, Manuel and Cornell, Samuele and Deleforge, Antoine and Vincent, Emmanuel},
  journal={arXiv preprint arXiv:2005.11262},
  year={2020}
}"""
_INSTRUCTIONS = """\
Put one of these into the manual folder: the generated LibriMix tree (the folder Libri2Mix or Libri3Mix); or LibriSpeech
(OpenSLR 12, the folder LibriSpeech), LibriMix's folder `metadata` (with Libri2Mix and Libri3Mix in it) and, for tasks
with noise, the folder wham_noise of WHAM!. `python -m mossformer_jax.data.prepare` accepts other folders.
"""


@dataclasses.dataclass(eq=False)
class LibriMixConfig(tfds.core.BuilderConfig):
    """One variant of LibriMix.

    Attributes:
        sample_rate: 8000 or 16000 Hz.
        mode: "min" (cut to the shortest source) or "max" (padded to the longest).
        task: "mix_clean", "mix_both" (with noise) or "mix_single" (one speaker with noise).
    """

    sample_rate: int = 8000
    mode: str = "min"
    task: str = "mix_clean"


_CONFIGS = [
    LibriMixConfig(
        name=f"{sample_rate // 1000}k_{mode}_{task.removeprefix('mix_')}",
        description=f"{sample_rate} Hz, mode {mode}, task {task}",
        sample_rate=sample_rate,
        mode=mode,
        task=task,
    )
    for sample_rate in SAMPLE_RATES
    for mode in MODES
    for task in TASKS
]


def open_splits(
    config: LibriMixConfig,
    num_speakers: int,
    *,
    librimix: str | os.PathLike[str] | None = None,
    librispeech: str | os.PathLike[str] | None = None,
    metadata: str | os.PathLike[str] | None = None,
    noise: str | os.PathLike[str] | None = None,
    splits: Sequence[str] | None = None,
) -> dict[str, MixtureSource]:
    """Opens the splits of LibriMix, from the generated tree or from LibriSpeech and the metadata.

    Args:
        config: sample rate, mode and task.
        num_speakers: 2 or 3.
        librimix: the folder `Libri{2,3}Mix`, or its parent. Otherwise give `librispeech` and `metadata`.
        librispeech: the folder with train-clean-360, dev-clean, ..., or the parent of `LibriSpeech`.
        metadata: the folder with `libri2mix_dev-clean.csv` and the other tables.
        noise: the folder `wham_noise`, or its parent; needed to mix tasks with noise from LibriSpeech.
        splits: any of train-360, train-100, dev and test; None: those that exist.

    Returns:
        The mixtures of each split.

    Raises:
        ValueError: neither or both origins are given, or a split is unknown.
        FileNotFoundError: a file or folder is missing, or no split exists.
    """
    for split in splits or ():
        check_choice("split", split, tuple(SUBSETS))
    options: dict[str, Any] = {"sample_rate": config.sample_rate, "mode": config.mode, "task": config.task}
    opened: dict[str, Callable[[], MixtureSource]] = {}
    if librimix is not None and librispeech is None and metadata is None:
        root = _inside(librimix, f"Libri{num_speakers}Mix")
        place = root / f"wav{config.sample_rate // 1000}k" / config.mode
        for split in splits or [split for split in SUBSETS if (place / split).is_dir()]:
            opened[split] = functools.partial(open_librimix, root, split, num_sources=num_speakers, **options)
    elif librimix is None and librispeech is not None and metadata is not None:
        speech, place = _inside(librispeech, "LibriSpeech"), Path(metadata)
        tables = {split: place / f"libri{num_speakers}mix_{subset}.csv" for split, subset in SUBSETS.items()}
        there = [split for split in SUBSETS if tables[split].is_file() and (speech / SUBSETS[split]).is_dir()]
        for split in splits or there:
            opened[split] = functools.partial(LibriSpeechMixtures, speech, tables[split], noise, **options)
    else:
        raise ValueError("give either librimix (a generated tree), or librispeech and metadata (to mix from them)")
    if not opened:
        raise FileNotFoundError(
            f"{place}: contains none of the splits {', '.join(SUBSETS)} (for LibriSpeech, the subsets "
            f"{', '.join(SUBSETS.values())}); check the folders"
        )
    return {split: open_split() for split, open_split in opened.items()}


def _inside(root: str | os.PathLike[str], name: str) -> Path:
    """The folder `root/name` if it exists, otherwise the root."""
    inside = Path(root) / name
    return inside if inside.is_dir() else Path(root)


class _LibriMix(tfds.core.ShardBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Common base of the two data sets. Shards are written one by one, because TFDS needs TensorFlow to shuffle."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First version."}
    BUILDER_CONFIGS: ClassVar = _CONFIGS
    MANUAL_DOWNLOAD_INSTRUCTIONS = _INSTRUCTIONS
    NUM_SPEAKERS: ClassVar[int]
    # Nothing is downloaded. Looking for checksums would make TFDS import a package that it does not depend on.
    _checksums_path: ClassVar = None

    def __init__(
        self,
        *,
        mixtures: Mapping[str, MixtureSource] | None = None,
        file_format: str = "array_record",
        **kwargs: Any,
    ):
        """Creates the builder.

        Args:
            mixtures: the mixtures of each split, as returned by `open_splits`; None: from TFDS's manual folder.
            file_format: file format of TFDS; array_record can be read without TensorFlow.
            **kwargs: arguments of every TFDS builder, such as `config`, `data_dir` and `version`.
        """
        self._mixtures = mixtures
        super().__init__(file_format=file_format, **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        def audio(*shape: int | None) -> tfds.features.Tensor:
            return tfds.features.Tensor(shape=shape, dtype=np.int16, encoding="bytes")

        with_noise = self.builder_config.task != "mix_clean"
        num_sources = 1 if self.builder_config.task == "mix_single" else self.NUM_SPEAKERS
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            citation=_CITATION,
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "speakers": tfds.features.Sequence(tfds.features.Text()),
                    "mixture": audio(None),
                    "sources": audio(num_sources, None),
                    **({"noise": audio(None)} if with_noise else {}),
                }
            ),
            supervised_keys=("mixture", "sources"),
            # Names and lengths by split, so that they are available without reading records.
            metadata=tfds.core.MetadataDict(),
            disable_shuffling=True,
        )

    def _shard_iterators_per_split(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, list[Callable[[], Iterator[tuple[int, dict[str, Any]]]]]]:
        mixtures = self._mixtures or self._open_manual_folder(Path(dl_manager.manual_dir))
        progress = tqdm(total=sum(map(len, mixtures.values())), desc=self.info.full_name, unit=" mixtures")
        shards: dict[str, list] = {}
        for split, source in mixtures.items():
            self.info.metadata[split] = {"ids": [], "num_samples": []}
            shards[split] = [
                functools.partial(self._examples, split, source, first, progress)
                for first in range(0, len(source), _MIXTURES_PER_SHARD)
            ]
        return shards

    def _open_manual_folder(self, folder: Path) -> dict[str, MixtureSource]:
        name = f"Libri{self.NUM_SPEAKERS}Mix"
        if (folder / name).is_dir():
            return open_splits(self.builder_config, self.NUM_SPEAKERS, librimix=folder)
        return open_splits(
            self.builder_config,
            self.NUM_SPEAKERS,
            librispeech=folder,
            metadata=folder / "metadata" / name,
            noise=folder,
        )

    def _examples(
        self,
        split: str,
        source: MixtureSource,
        first: int,
        progress: Any,  # TFDS's tqdm is a function; the class of its bars is private
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in range(first, min(first + _MIXTURES_PER_SHARD, len(source))):
            mixture = source.read(index)
            example = {
                "id": mixture.id,
                "speakers": list(mixture.speakers),
                "mixture": _to_int16(mixture.mixed()),
                "sources": _to_int16(mixture.sources),
            }
            if mixture.noise is not None:
                example["noise"] = _to_int16(mixture.noise)
            self.info.metadata[split]["ids"].append(mixture.id)
            self.info.metadata[split]["num_samples"].append(mixture.sources.shape[1])
            yield index, example
            progress.update()


class Libri2Mix(_LibriMix):
    """Libri2Mix: two speakers. Configs: `{8k,16k}_{min,max}_{clean,both,single}`."""

    name = "libri2mix"
    NUM_SPEAKERS = 2


class Libri3Mix(_LibriMix):
    """Libri3Mix: three speakers. Configs: `{8k,16k}_{min,max}_{clean,both,single}`."""

    name = "libri3mix"
    NUM_SPEAKERS = 3


def _to_int16(waveform: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(waveform * 2.0**15), -(2**15), 2**15 - 1).astype(np.int16)
