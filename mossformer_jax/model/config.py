"""The model configuration: sizes, options and numerics."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax.numpy as jnp

from mossformer_jax.fields import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, check_types, from_fields, require

DTYPES = ("float32", "bfloat16", "float64")
REMATS = ("none", "products", "blocks")
_WHAT = "model config"


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Sizes and options of a MossFormer2 (or, without FSMN, a MossFormer v1).

    Attributes:
        num_sources: number of separated sources (`c`).
        sample_rate: rate of the training audio in Hz; it does not affect the network.
        encoder_channels: channels of the encoder's and the mask's features (`n`).
        model_channels: channels inside the stack of blocks (`d`), even.
        num_blocks: number of blocks in the stack (`R`).
        kernel_size: encoder and decoder kernel in samples, a multiple of `stride`.
        stride: encoder and decoder stride in samples.
        group_size: frames in a group of the quadratic attention (`s`).
        query_key_channels: width of queries and keys (`k`), even.
        fsmn_channels: inner width of the gated FSMN blocks, even; None: no FSMN blocks (MossFormer v1).
        direct_decoding: decode the mask net's output directly instead of multiplying it with the mixture's
            features (the official WHAMR! checkpoint).
        dropout: dropout rate during training.
        dtype: compute dtype. Parameters are float32 (float64 for "float64"); norm statistics, positions, the encoder
            and the decoder are always computed in at least float32.
        remat: which activations are kept for the backward pass; the others are recomputed. "none": all are kept;
            "products": matrix products and dropout masks; "blocks": only the input of each block.
        input_level_db: input level in dB for which the weights were trained, as the RMS of the samples louder than the
            mean power; None: the input is not scaled.
        output_gains: factors applied to the outputs, one per source. SI-SDR does not determine the level of an output,
            and the decoder is shared by all sources, so training measures these factors. None, as in the official
            models: the outputs are not scaled.
        shifts: number of copies of the mixture, delayed by multiples of `stride / shifts` samples, whose sources are
            averaged. 1, as in the official models: the mixture alone.

    Raises:
        ValueError: a field is out of range; the message names it.
    """

    num_sources: int = 2
    sample_rate: int = 8000
    encoder_channels: int = 512
    model_channels: int = 512
    num_blocks: int = 24
    kernel_size: int = 16
    stride: int = 8
    group_size: int = 256
    query_key_channels: int = 128
    fsmn_channels: int | None = 256
    direct_decoding: bool = False
    dropout: float = 0.1
    dtype: str = "float32"
    remat: str = "none"
    input_level_db: float | None = None
    output_gains: tuple[float, ...] | None = None
    shifts: int = 1

    def __post_init__(self) -> None:
        check_types(self, _WHAT)
        for name in _POSITIVE:
            require(getattr(self, name) >= 1, _WHAT, name, getattr(self, name), "1 or more")
        lowest = f"at least {MIN_SAMPLE_RATE}"
        require(self.sample_rate >= MIN_SAMPLE_RATE, _WHAT, "sample_rate", self.sample_rate, lowest)
        for name, largest in _LARGEST.items():
            value = getattr(self, name)
            require(value is None or value <= largest, _WHAT, name, value, f"at most {largest:,}")
        for name in _EVEN:
            value = getattr(self, name)
            require(value is None or (value >= 2 and value % 2 == 0), _WHAT, name, value, "an even number, 2 or more")
        size = self.model_channels**2 * self.num_blocks
        limit = f"such that model_channels squared times num_blocks={self.num_blocks} is at most {_LARGEST_SIZE:,}"
        require(size <= _LARGEST_SIZE, _WHAT, "model_channels", self.model_channels, limit)
        multiple = f"a multiple of stride={self.stride}"
        require(self.kernel_size % self.stride == 0, _WHAT, "kernel_size", self.kernel_size, multiple)
        require(0.0 <= self.dropout < 1.0, _WHAT, "dropout", self.dropout, "at least 0 and below 1")
        require(self.dtype in DTYPES, _WHAT, "dtype", self.dtype, f"one of {', '.join(DTYPES)}")
        require(self.remat in REMATS, _WHAT, "remat", self.remat, f"one of {', '.join(REMATS)}")
        level = self.input_level_db
        require(level is None or math.isfinite(level), _WHAT, "input_level_db", level, "finite, or None")
        require(level is None or abs(level) <= 200, _WHAT, "input_level_db", level, "from -200 to 200, or None")
        gains = self.output_gains
        usable = gains is None or (
            len(gains) == self.num_sources
            and all(type(gain) in (int, float) and math.isfinite(gain) and gain != 0 for gain in gains)
        )
        factors = f"{self.num_sources} finite numbers other than 0 (num_sources={self.num_sources}), or None"
        require(usable, _WHAT, "output_gains", gains, factors)
        divides = f"a divisor of stride={self.stride}"
        require(self.stride % self.shifts == 0, _WHAT, "shifts", self.shifts, divides)
        ordered = self.shifts == 1 or self.num_sources <= _MOST_ORDERED
        require(ordered, _WHAT, "shifts", self.shifts, f"1 with more than {_MOST_ORDERED} sources")

    @property
    def compute_dtype(self) -> jnp.dtype:
        """Dtype of the activations inside the mask net."""
        return jnp.dtype(self.dtype)

    @property
    def param_dtype(self) -> jnp.dtype:
        """Dtype of the parameters, of the encoder and of the decoder."""
        return jnp.dtype("float64" if self.dtype == "float64" else "float32")

    @property
    def rotary_channels(self) -> int:
        """Number of query and key channels with rotary embedding."""
        return min(32, self.query_key_channels)

    @property
    def hidden_channels(self) -> int:
        """Channels of the attention's values and gates together (`[v | u]`)."""
        return 4 * self.model_channels

    def num_frames(self, num_samples: int) -> int:
        """Number of encoder frames of a signal, `(t - kernel_size) // stride + 1`."""
        return (num_samples - self.kernel_size) // self.stride + 1

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> ModelConfig:
        """A published size by name, for example `ModelConfig.preset("mossformer2-2spk", dtype="bfloat16")`.

        Raises:
            ValueError: no preset has this name.
        """
        if name not in PRESETS:
            raise ValueError(f"no preset {name!r}; must be one of {', '.join(PRESETS)}")
        return dataclasses.replace(PRESETS[name], **overrides)

    def with_shifts(self, shifts: int | None) -> ModelConfig:
        """This config with another number of shifts; unchanged if `shifts` is None."""
        return self if shifts is None else dataclasses.replace(self, shifts=shifts)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> ModelConfig:
        """Builds a config from the output of `to_dict`. In models of earlier versions, `remat` is true or false.

        Raises:
            ValueError: a field is unknown (the closest known one is suggested), of the wrong type or out of range.
        """
        if isinstance(fields.get("remat"), bool):
            fields = {**fields, "remat": "blocks" if fields["remat"] else "none"}
        return from_fields(cls, fields, _WHAT)


_POSITIVE = ("num_sources", "encoder_channels", "num_blocks", "kernel_size", "stride", "group_size", "shifts")
# Several times the published sizes. Above, a damaged config would take all memory before an error.
_LARGEST = {
    "num_sources": 64,
    "sample_rate": MAX_SAMPLE_RATE,
    "encoder_channels": 2**14,
    "model_channels": 2**14,
    "num_blocks": 1024,
    "kernel_size": 2**14,
    "stride": 2**14,
    "group_size": 2**13,
    "query_key_channels": 2**13,
    "fsmn_channels": 2**14,
}
# A billion parameters or more in the stack of blocks.
_LARGEST_SIZE = 2**28
# The sources of shifted copies are compared in all orders.
_MOST_ORDERED = 6
_EVEN = ("model_channels", "query_key_channels", "fsmn_channels")


PRESETS: dict[str, ModelConfig] = {
    "mossformer2-2spk": ModelConfig(),
    "mossformer2-3spk": ModelConfig(num_sources=3),
    "mossformer2-2spk-16k": ModelConfig(sample_rate=16000, input_level_db=-25.0),
    "mossformer2-whamr-2spk": ModelConfig(direct_decoding=True),
    "mossformer2-s-2spk": ModelConfig(encoder_channels=384, model_channels=384, num_blocks=25),
    "mossformer-l-2spk": ModelConfig(fsmn_channels=None),
    "mossformer-m-2spk": ModelConfig(encoder_channels=384, model_channels=384, num_blocks=25, fsmn_channels=None),
}
