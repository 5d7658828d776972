"""Mixtures prepared as a TFDS data set."""

from __future__ import annotations

import os

import numpy as np
import tensorflow_datasets as tfds

from mossformer_jax.data.layouts.options import check_choice
from mossformer_jax.data.libri2mix import builder as _builder  # noqa: F401  # registers libri2mix and libri3mix
from mossformer_jax.data.records import Mixture, check_crop


class TfdsMixtures:
    """A split of a data set that TFDS has prepared as array_record (a `MixtureSource`). TensorFlow is not needed.

    Attributes:
        num_sources: number of sources per mixture.
        sample_rate: in Hz.
    """

    def __init__(self, name: str, split: str, data_dir: str | os.PathLike[str] | None = None):
        """Opens a split and reads the names and lengths of its mixtures, but no audio.

        Args:
            name: the data set and its config, such as "libri2mix/8k_min_clean".
            split: train-360, train-100, dev or test, if prepared.
            data_dir: the folder of TFDS's data sets; None: TFDS's default (TFDS_DATA_DIR or ~/tensorflow_datasets).

        Raises:
            FileNotFoundError: the data set has not been prepared in this folder.
            ValueError: there is no such data set, config or split.
        """
        try:
            builder = tfds.builder(name, data_dir=data_dir)
        except (ValueError, tfds.core.registered.DatasetNotFoundError) as error:
            reason = " ".join(str(error).split("\n")[0].split())
            raise ValueError(
                f"name={name!r} is not allowed: {reason}; use a name such as libri2mix/8k_min_clean"
            ) from None
        if not builder.data_path.exists():
            raise FileNotFoundError(
                f"{builder.data_path}: not prepared; run python -m mossformer_jax.data.prepare {name}, or set data_dir"
            )
        check_choice("split", split, sorted(builder.info.splits))
        self._records = builder.as_data_source(split)
        self._index: dict[str, list] = builder.info.metadata[split]
        self.sample_rate: int = builder.builder_config.sample_rate
        self.num_sources: int = builder.info.features["sources"].shape[0]

    def __len__(self) -> int:
        """Number of mixtures."""
        return len(self._records)

    def mixture_id(self, index: int) -> str:
        """Name of a mixture, without reading its record."""
        return self._index["ids"][index]

    def num_samples(self, index: int) -> int:
        """Length of a mixture, without reading its record."""
        return self._index["num_samples"][index]

    def read(self, index: int, start: int = 0, num_samples: int | None = None) -> Mixture:
        """Reads a mixture, or `num_samples` of it from `start`. The whole record is always read from disk.

        Args:
            index: index of the mixture.
            start: the first sample to read; must be before the mixture's end.
            num_samples: number of samples to read, 1 or more; fewer are returned at the mixture's end. None reads all.

        Raises:
            ValueError: the range is outside the mixture, or the file is damaged.
        """
        check_crop(self.mixture_id(index), self.num_samples(index), start, num_samples)
        try:
            record = self._records[index]
        except (RuntimeError, IndexError) as error:  # what array_record raises for a damaged file
            reason = " ".join(str(error).split())
            raise ValueError(
                f"{self.mixture_id(index)}: cannot be read ({reason}); prepare the data set again with --overwrite"
            ) from error
        crop = slice(start, None if num_samples is None else start + num_samples)
        return Mixture(
            id=record["id"].decode(),
            mixture=_to_float(record["mixture"][crop]),
            sources=_to_float(record["sources"][:, crop]),
            noise=_to_float(record["noise"][crop]) if "noise" in record else None,
            sample_rate=self.sample_rate,
            speakers=tuple(speaker.decode() for speaker in record["speakers"]),
        )


def _to_float(waveform: np.ndarray) -> np.ndarray:
    return waveform.astype(np.float32) / np.float32(2**15)
