"""How a model is trained: the options of `config.train`, with the published recipe as their defaults."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from mossformer_jax.fields import check_types, from_fields, require

_WHAT = "config.train"
FILTERBANKS = ("random", "sinusoids")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Options of a training; the defaults are those of MossFormer2 on WSJ0-2mix (arXiv 2312.11825, section 3).

    An epoch is as many steps as the training data's length over the batch size, rounded up.

    Attributes:
        epochs: length of the training.
        steps: length in optimizer steps instead; the total, not what is added on resuming.
        lr: Adam's learning rate.
        warmup_steps: steps over which the learning rate rises linearly to `lr` at first.
        constant_epochs: epochs before the learning rate may fall.
        patience: validations without an improvement of the loss after which the learning rate is multiplied by
            `lr_factor`.
        lr_factor: what it is multiplied by.
        min_lr: it does not fall below this.
        decay_steps: steps at the end of the training over which the learning rate falls linearly to zero besides.
        clip_norm: gradients of a larger global norm are scaled down to it.
        threshold_db: mixtures that are already separated better than this are left out of the loss.
        max_loss: a step whose loss is above this many dB is skipped, as one that is not finite.
        max_skipped: so many skipped steps in a row stop the training.
        accumulation: pieces that a batch is cut into, one after the other, to save memory; the result is the same.
        ema_decay: decay a step of a running average of the weights, which is then what is validated and written.
        seed: of initial weights and dropout.
        initial_weights: a model folder to begin from (fine-tuning), or "default".
        initial_filterbank: encoder and decoder of a training that begins from nothing: "random", as PyTorch draws
            them, or "sinusoids", which tell frequencies apart at once (`sinusoids`).
        fsdp: devices that parameters and optimizer state are sharded over; the others repeat them.
        validate_every: steps between validations; an epoch's if None.
        checkpoint_every: steps between checkpoints; those between validations if None.
        log_every: steps between lines of the log.
        validation_batch_size: utterances validated at once, over all devices; as many as devices if None.
        num_examples: validation mixtures that are shown and can be listened to in TensorBoard.
        keep_last: latest checkpoints that are kept.
        keep_best: checkpoints with the best validation SI-SDRi that are kept besides.

    Raises:
        ValueError: a field is out of its range; the message names it.
    """

    epochs: int = 200
    steps: int | None = None
    lr: float = 15e-5
    warmup_steps: int = 0
    constant_epochs: int = 85
    patience: int = 2
    lr_factor: float = 0.5
    min_lr: float = 1e-8
    decay_steps: int = 0
    clip_norm: float = 5.0
    threshold_db: float = 30.0
    max_loss: float = 90.0
    max_skipped: int = 20
    accumulation: int = 1
    ema_decay: float | None = None
    seed: int = 0
    initial_weights: str | None = None
    initial_filterbank: str = "random"
    fsdp: int = 1
    validate_every: int | None = None
    checkpoint_every: int | None = None
    log_every: int = 50
    validation_batch_size: int | None = None
    num_examples: int = 2
    keep_last: int = 2
    keep_best: int = 1

    def __post_init__(self) -> None:
        check_types(self, _WHAT)
        for name in _AT_LEAST_ONE:
            value = getattr(self, name)
            require(value is None or value >= 1, _WHAT, name, value, "1 or more")
        for name in _AT_LEAST_ZERO:
            require(getattr(self, name) >= 0, _WHAT, name, getattr(self, name), "0 or more")
        for name in ("lr", "clip_norm"):
            value = getattr(self, name)
            require(0 < value < math.inf, _WHAT, name, value, "above 0")
        require(0 <= self.min_lr <= self.lr, _WHAT, "min_lr", self.min_lr, f"from 0 to lr={self.lr}")
        require(0 < self.lr_factor < 1, _WHAT, "lr_factor", self.lr_factor, "between 0 and 1")
        decay = self.ema_decay
        require(decay is None or 0 < decay < 1, _WHAT, "ema_decay", decay, "None or between 0 and 1")
        filterbank = self.initial_filterbank
        require(filterbank in FILTERBANKS, _WHAT, "initial_filterbank", filterbank, f"one of {', '.join(FILTERBANKS)}")
        require(0 <= self.seed < 2**32, _WHAT, "seed", self.seed, "from 0 to 2**32 - 1")

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Recipe:
        """Reads `config.train`.

        Raises:
            ValueError: a field is unknown (the nearest known one is named), of the wrong type or out of range.
        """
        return from_fields(cls, fields, _WHAT)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values."""
        return dataclasses.asdict(self)


_AT_LEAST_ONE = (
    *("epochs", "steps", "patience", "max_skipped", "accumulation", "fsdp", "validate_every", "checkpoint_every"),
    *("log_every", "validation_batch_size", "keep_last"),
)
_AT_LEAST_ZERO = ("warmup_steps", "constant_epochs", "decay_steps", "num_examples", "keep_best")
