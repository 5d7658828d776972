"""The training options (`config.train`), with the published recipe as defaults."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

from mossformer_jax.fields import check_types, from_fields, require

_WHAT = "config.train"
OPTIMIZERS = ("adam", "adamw", "lion", "muon")
DECAYS = ("linear", "cosine")
SCHEDULES = ("plateau", "warmup-stable-decay", *DECAYS)
# Values of `weight_decay_mask` that are not regular expressions.
MASKS = ("matrices", "all")
LOGGERS = ("wandb", "mlflow")
FILTERBANKS = ("random", "sinusoids")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Training options; the defaults are those of MossFormer2 on WSJ0-2mix (arXiv 2312.11825, section 3).

    The number of steps per epoch is the number of training mixtures over the batch size, rounded up.

    Attributes:
        epochs: length of the training in epochs.
        steps: total length in optimizer steps, including those before a resume; overrides `epochs`.
        lr: the learning rate.
        optimizer: "adam" (as published), "adamw", "lion" or "muon" (for the matrices of the mask net; Adam for the
            rest, at the same learning rate).
        weight_decay: decoupled weight decay per unit of learning rate; not for "adam".
        weight_decay_mask: the parameters that decay: "matrices" (those of the mask net), "all", or a regular expression
            that is searched for in the names of parameters, such as "mask_net.*kernel".
        schedule: course of the learning rate after the warm-up: "plateau" (as published: constant, then lower after
            validations without improvement), "warmup-stable-decay" (constant, then a decay over `decay_steps`), or
            "linear" or "cosine" (a decay to zero over all steps).
        warmup_steps: initial steps over which the learning rate rises linearly to `lr`.
        constant_epochs: epochs before the learning rate may be lowered.
        patience: validations without an improvement of the loss after which the learning rate is multiplied by
            `lr_factor`.
        lr_factor: factor by which the learning rate is lowered.
        min_lr: lower bound of the learning rate after plateaus; warm-up and final decay may go below it.
        decay_steps: final steps over which the learning rate (additionally) decays to zero, for the schedules "plateau"
            and "warmup-stable-decay".
        decay: shape of the final decay, "linear" or "cosine".
        clip_norm: gradients with a larger global norm are scaled down to this norm.
        threshold_db: mixtures whose SI-SDR already exceeds this value are excluded from the loss.
        max_loss: a step with a loss above this many dB is skipped, like one that is not finite.
        max_skipped: number of consecutive skipped steps that stops the training.
        accumulation: number of pieces into which a batch is split to save memory; the result is the same.
        ema_decay: decay per step of a running average of the weights; if set, the average is validated and written.
        seed: seed of the initial weights and of dropout.
        initial_weights: a model folder to start from (fine-tuning), or "default"; the command `train` then takes the
            sizes of that model.
        partial: whether initial weights of another size are used as far as they fit; the rest starts at random.
        initial_filterbank: encoder and decoder of a training from scratch: "random", initialised as in PyTorch, or
            "sinusoids", which resolve frequencies from the start (`sinusoids`).
        fsdp: number of devices over which parameters and optimizer state are sharded; they are replicated over the
            rest.
        validate_every: steps between validations; one epoch if None.
        checkpoint_every: steps between checkpoints; `validate_every` if None.
        log_every: steps between log lines.
        validation_batch_size: utterances per validation batch, over all devices; the number of devices if None.
        num_examples: number of validation mixtures to show and play in TensorBoard: those of middle length, always the
            same ones.
        loggers: further loggers, "wandb" or "mlflow"; their packages are extras of the same names.
        keep_last: number of latest checkpoints to keep.
        keep_best: number of checkpoints with the best validation SI-SDRi to keep in addition.

    Raises:
        ValueError: a field is out of range; the message names it.
    """

    epochs: int = 200
    steps: int | None = None
    lr: float = 15e-5
    optimizer: str = "adam"
    weight_decay: float = 0.0
    weight_decay_mask: str = "matrices"
    schedule: str = "plateau"
    warmup_steps: int = 0
    constant_epochs: int = 85
    patience: int = 2
    lr_factor: float = 0.5
    min_lr: float = 1e-8
    decay_steps: int = 0
    decay: str = "linear"
    clip_norm: float = 5.0
    threshold_db: float = 30.0
    max_loss: float = 90.0
    max_skipped: int = 20
    accumulation: int = 1
    ema_decay: float | None = None
    seed: int = 0
    initial_weights: str | None = None
    partial: bool = False
    initial_filterbank: str = "random"
    fsdp: int = 1
    validate_every: int | None = None
    checkpoint_every: int | None = None
    log_every: int = 50
    validation_batch_size: int | None = None
    num_examples: int = 2
    loggers: tuple[str, ...] = ()
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
        for name, allowed in (("optimizer", OPTIMIZERS), ("decay", DECAYS), ("schedule", SCHEDULES)):
            value = getattr(self, name)
            require(value in allowed, _WHAT, name, value, f"one of {', '.join(allowed)}")
        adam = self.optimizer == "adam"
        allowed_decay = '0 with optimizer="adam"; use "adamw"' if adam else "0 or more"
        usable = self.weight_decay == 0 if adam else 0 <= self.weight_decay < math.inf
        require(usable, _WHAT, "weight_decay", self.weight_decay, allowed_decay)
        mask = self.weight_decay_mask
        expected = f"{' or '.join(MASKS)}, or a regular expression"
        require(_is_expression(mask), _WHAT, "weight_decay_mask", mask, expected)
        over_all, steps = self.schedule in DECAYS, self.decay_steps
        require(not (over_all and steps), _WHAT, "decay_steps", steps, f'0 with schedule="{self.schedule}"')
        stable = self.schedule == "warmup-stable-decay"
        require(steps > 0 or not stable, _WHAT, "decay_steps", steps, f'1 or more with schedule="{self.schedule}"')
        filterbank = self.initial_filterbank
        require(filterbank in FILTERBANKS, _WHAT, "initial_filterbank", filterbank, f"one of {', '.join(FILTERBANKS)}")
        for logger in self.loggers:
            require(logger in LOGGERS, _WHAT, "loggers", self.loggers, f"names from {', '.join(LOGGERS)}")
        require(0 <= self.seed < 2**32, _WHAT, "seed", self.seed, "from 0 to 2**32 - 1")

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Recipe:
        """Reads `config.train`.

        Raises:
            ValueError: a field is unknown (the message names the nearest known one), of the wrong type or out of
                range.
        """
        return from_fields(cls, fields, _WHAT)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values."""
        return dataclasses.asdict(self)


def _is_expression(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True


_AT_LEAST_ONE = (
    *("epochs", "steps", "patience", "max_skipped", "accumulation", "fsdp", "validate_every", "checkpoint_every"),
    *("log_every", "validation_batch_size", "keep_last"),
)
_AT_LEAST_ZERO = ("warmup_steps", "constant_epochs", "decay_steps", "num_examples", "keep_best")
