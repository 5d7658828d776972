"""The data of a training run, opened and compared with the model."""

from __future__ import annotations

import jax
import numpy as np
from jax.sharding import Mesh

from mossformer_jax.data.batch import Batch
from mossformer_jax.data.layouts import open_mixtures
from mossformer_jax.data.mixing import TrainingMixtures
from mossformer_jax.data.on_device import DeviceBatches
from mossformer_jax.data.pipeline import TrainingBatches, train_batches
from mossformer_jax.data.records import MixtureSource
from mossformer_jax.data.silence import check_sound
from mossformer_jax.data.training_mixtures import open_training_mixtures
from mossformer_jax.model import ModelConfig
from mossformer_jax.training.configuration import DataConfig, check_mixtures


def open_training_data(model: ModelConfig, data: DataConfig) -> TrainingMixtures:
    """Opens the training mixtures.

    Raises:
        FileNotFoundError, ValueError: they are missing, invalid or silent, or do not match the model; the message names
            the problem and the fix.
    """
    mixtures = open_training_mixtures(**data.train)
    check_mixtures(model, mixtures, "train")
    check_sound(mixtures, "train")
    return mixtures


def open_validation_data(model: ModelConfig, data: DataConfig) -> MixtureSource:
    """Opens the validation mixtures; raises the errors of `open_training_data`."""
    mixtures = open_mixtures(**data.validation)
    check_mixtures(model, mixtures, "validation")
    check_sound(mixtures, "validation")
    return mixtures


def open_batches(
    model: ModelConfig, data: DataConfig, mixtures: TrainingMixtures, mesh: Mesh
) -> TrainingBatches | DeviceBatches:
    """This process's training batches: drawn on the devices if `data.on_device` is set, otherwise by Grain."""
    num_samples = round(data.seconds * model.sample_rate)
    if data.on_device:
        return DeviceBatches(mixtures, batch_size=data.batch_size, num_samples=num_samples, seed=data.seed, mesh=mesh)
    return train_batches(
        mixtures,
        batch_size=data.batch_size,
        num_samples=num_samples,
        seed=data.seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        num_workers=data.num_workers,
        max_failed_share=data.max_failed_share,
    )


def empty_batch(model: ModelConfig, data: DataConfig) -> Batch:
    """A batch of zeros with the shapes of this process's training batches."""
    rows, num_samples = data.batch_size // jax.process_count(), round(data.seconds * model.sample_rate)
    return Batch(
        np.zeros((rows, num_samples), np.float32),
        np.zeros((rows, model.num_sources, num_samples), np.float32),
        np.zeros(rows, np.int32),
    )
