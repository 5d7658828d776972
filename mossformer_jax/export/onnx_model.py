"""The model as an ONNX graph, written from its weights: a second description of `mossformer_jax.model`.

The graph computes what `MossFormer2` computes without lengths. tests/export/ compares the two for every preset.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, checker, helper

from mossformer_jax.atomic import write_atomically
from mossformer_jax.export.graph import Graph, TrackedParameters
from mossformer_jax.export.metadata import describe
from mossformer_jax.model import ModelConfig
from mossformer_jax.model.fsmn import NORM_EPS, PairedConv
from mossformer_jax.model.masknet import GROUP_NORM_EPS, STACK_NORM_EPS
from mossformer_jax.model.norms import ScaleNorm
from mossformer_jax.model.shifts import shift_delays, source_orders
from mossformer_jax.weights.parameters import Parameters

OPSET = 17


def export_onnx(path: Path, config: ModelConfig, parameters: Parameters, *, float16: bool = False) -> None:
    """Writes an ONNX model: `mixture` (b, t) to `sources` (b, c, t), float32, both axes of any size.

    Args:
        path: file to write.
        config: the model's sizes and options. The graph computes in float32 whatever `dtype` is.
        parameters: all parameters and frequency tables, by dotted name.
        float16: store the weights in half precision, for half the size.

    Raises:
        ValueError: a weight is outside float16's range, or the graph does not describe a parameter.
        OSError: the file cannot be written.
    """
    model = build_model(config, parameters, float16=float16)
    write_atomically(path, model.SerializeToString())


def fits_float16(parameters: Parameters) -> bool:
    """Whether float16 stores all weights exactly. Frequency tables are never stored in it."""
    weights = [array for name, array in parameters.items() if not name.endswith("frequencies")]
    with np.errstate(over="ignore"):
        return all((array.astype(np.float16).astype(array.dtype) == array).all() for array in weights)


def build_model(config: ModelConfig, parameters: Parameters, *, float16: bool = False) -> Any:
    """The ONNX model as a checked `onnx.ModelProto`."""
    g = Graph(float16)
    named = TrackedParameters(parameters)
    _Network(g, config, named).build()
    if unread := named.unread():
        raise ValueError(f"the ONNX graph does not describe the parameters {', '.join(unread)}; add them to {__name__}")
    mixture = helper.make_tensor_value_info("mixture", TensorProto.FLOAT, ["b", "t"])
    sources = helper.make_tensor_value_info("sources", TensorProto.FLOAT, ["b", config.num_sources, "t"])
    model = g.model([mixture], [sources], OPSET, describe(config))
    checker.check_model(model)
    return model


class _Network:
    """The parts of the network, with the tensors that several of them use."""

    def __init__(self, graph: Graph, config: ModelConfig, parameters: TrackedParameters):
        self.g, self.config, self.parameters = graph, config, parameters
        self.mask_net = parameters.below("mask_net")

    def build(self) -> None:
        """Adds all nodes, from `mixture` to `sources`."""
        g, delays = self.g, shift_delays(self.config)
        first = total = self.separate("mixture")
        for delay in delays[1:].tolist():
            sources = self.separate(g("Pad", "mixture", g.integers(0, delay, 0, 0)))
            end = g.integers(np.iinfo(np.int64).max)
            sources = g("Slice", sources, g.integers(delay), end, g.integers(2))
            total = g("Add", total, self.reorder(sources, first))
        if len(delays) > 1:
            g("Div", total, g.constant(len(delays)))
        g.nodes[-1].output[0] = "sources"

    def separate(self, mixture: str) -> str:
        """Adds the nodes of the separation of a copy; returns its sources (b, c, t)."""
        features = self.encode(mixture)
        self.measure(features)
        masks = self.mask(features)
        if not self.config.direct_decoding:
            masks = self.g("Mul", masks, self.g("Unsqueeze", features, self.g.integers(1)))
        return self.decode(masks, mixture)

    def reorder(self, sources: str, first: str) -> str:
        """Brings sources into the order of those of the first copy, by the inner products of all pairs."""
        g = self.g
        orders_pcc = g.constant(np.eye(self.config.num_sources)[source_orders(self.config.num_sources)])
        products = g("MatMul", first, g("Transpose", sources, perm=[0, 2, 1]))
        totals = g("Mul", g("Unsqueeze", products, g.integers(1)), orders_pcc)
        totals = g("ReduceSum", totals, g.integers(2, 3), keepdims=0)
        return g("MatMul", g("Gather", orders_pcc, g("ArgMax", totals, axis=1, keepdims=0), axis=0), sources)

    def encode(self, mixture: str) -> str:
        g, config = self.g, self.config
        kernel = g.weight(self.parameters["encoder.kernel"].T[:, None])
        samples = g("Unsqueeze", mixture, g.integers(1))
        return g("Relu", g("Conv", samples, kernel, strides=[config.stride], kernel_shape=[config.kernel_size]))

    def measure(self, features: str) -> None:
        """The number of frames in the forms that the layers need, and the tables of the positions."""
        g, config = self.g, self.config
        self.length = g("Shape", features, start=2, end=3)
        length = g("Squeeze", self.length, g.integers(0))
        self.float_length = g("Cast", self.length, to=TensorProto.FLOAT)
        steps = g("Range", g.constant(0, np.int64), length, g.constant(1, np.int64))
        self.frames = g("Cast", steps, to=TensorProto.FLOAT)
        group = g.integers(config.group_size)
        self.groups = g("Div", g("Add", self.length, g.integers(config.group_size - 1)), group)
        self.padded = g("Mul", self.groups, group)
        missing = g("Sub", self.padded, self.length)
        self.pads = g("Concat", g.integers(0, 0, 0, 0, 0), missing, axis=0)
        # Channels past the rotary ones have cosine 1 and sine 0, so they are left as they are.
        frequencies, channels = self.mask_net["rotary.frequencies"], config.query_key_channels
        rates, signs = np.zeros(channels, np.float32), np.zeros(channels, np.float32)
        rates[: 2 * len(frequencies)] = np.repeat(frequencies, 2)
        signs[: 2 * len(frequencies)] = np.tile([-1.0, 1.0], len(frequencies))
        angles = g("Mul", g.column(rates), self.frames)
        self.cosines, self.sines = g.wave("Cos", angles), g("Mul", g.wave("Sin", angles), g.column(signs))
        self.swapped = g.constant(np.arange(channels) ^ 1, np.int64)

    def mask(self, features: str) -> str:
        g, config, p = self.g, self.config, self.mask_net
        x = g.norm(features, p.below("input_norm"), [1, 2], GROUP_NORM_EPS)
        x = g.linear(x, p.below("input_projection"))
        angles = g("Mul", g.column(p["positions.frequencies"]), self.frames)
        positions = g("Concat", g.wave("Sin", angles), g.wave("Cos", angles), axis=0)
        entry = x = g("Add", x, g("Mul", positions, g.constant(p["positions.scale"])))

        blocks = p.below("blocks")
        for index in range(config.num_blocks):
            block = blocks.of_block(index)
            x = self.attention(x, block.below("attention"))
            if config.fsmn_channels is not None:
                x = self.fsmn(x, block.below("fsmn"))

        x = g.norm(x, p.below("stack_norm"), [1], STACK_NORM_EPS)
        x = g("Add", g.norm(x, p.below("outer_norm"), [1, 2], GROUP_NORM_EPS), entry)
        x = g.linear(g.prelu(x, p.below("prelu")), p.below("source_projection"))
        x = g("Reshape", x, g("Concat", g.integers(-1, config.model_channels), self.length, axis=0))
        gates = g("Sigmoid", g.linear(x, p.below("output_gate")))
        x = g("Mul", g("Tanh", g.linear(x, p.below("output"))), gates)
        masks = g("Relu", g.linear(x, p.below("mask_projection")))
        shape = g("Concat", g.integers(-1, config.num_sources, config.encoder_channels), self.length, axis=0)
        return g("Reshape", masks, shape)

    def attention(self, x: str, p: TrackedParameters) -> str:
        g, config = self.g, self.config

        def projection(x: str, name: str) -> str:
            scaled = g.scale_norm(x, p[f"{name}.norm.scale"], ScaleNorm.EPS)
            return g.silu_and_convolve(scaled, p.below(name))

        first, second = g("Split", x, axis=1, outputs=2)
        delayed = g("Slice", g("Pad", first, g.integers(0, 0, 1, 0, 0, 0)), g.integers(0), self.length, g.integers(2))
        shifted = g("Concat", delayed, second, axis=1)
        vu, qk = projection(shifted, "to_hidden"), projection(shifted, "to_qk")
        gamma, beta = p["offset_scale.gamma"], p["offset_scale.beta"]
        copies = (g("Add", g("Mul", qk, g.column(gamma[i])), g.column(beta[i])) for i in range(4))
        quad_q, lin_q, quad_k, lin_k = map(self.rotate, copies)

        channels, hidden = config.query_key_channels, config.hidden_channels
        queries, keys = self.split(quad_q, channels), self.split(quad_k, channels)
        products = g("MatMul", g("Transpose", queries, perm=[0, 1, 3, 2]), keys)
        weights = g("Relu", g("Div", products, g.constant(config.group_size)))
        weights = g("Transpose", g("Mul", weights, weights), perm=[0, 1, 3, 2])
        quadratic = self.join(g("MatMul", self.split(vu, hidden), weights), hidden)
        memory = g("Div", g("MatMul", vu, g("Transpose", lin_k, perm=[0, 2, 1])), self.float_length)
        attended = g("Add", quadratic, g("MatMul", memory, lin_q))

        (v, u), (attended_v, attended_u) = (g("Split", tensor, axis=1, outputs=2) for tensor in (vu, attended))
        gates = g("Sigmoid", g("Mul", attended_v, u))
        return g("Add", x, projection(g("Mul", g("Mul", attended_u, v), gates), "to_out"))

    def rotate(self, x: str) -> str:
        g = self.g
        swapped = g("Gather", x, self.swapped, axis=1)
        return g("Add", g("Mul", x, self.cosines), g("Mul", swapped, self.sines))

    def split(self, x: str, channels: int) -> str:
        """Cuts into groups of frames, (b, g, channels, s), the last one zero-padded."""
        g = self.g
        shape = g("Concat", g.integers(0, channels), self.groups, g.integers(self.config.group_size), axis=0)
        return g("Transpose", g("Reshape", g("Pad", x, self.pads), shape), perm=[0, 2, 1, 3])

    def join(self, x: str, channels: int) -> str:
        """Undoes `split`."""
        g = self.g
        shape = g("Concat", g.integers(0, channels), self.padded, axis=0)
        padded = g("Reshape", g("Transpose", x, perm=[0, 2, 1, 3]), shape)
        return g("Slice", padded, g.integers(0), self.length, g.integers(2))

    def fsmn(self, x: str, p: TrackedParameters) -> str:
        g = self.g

        def layer_norm(x: str, name: str) -> str:
            return g.norm(x, p.below(name), [1], NORM_EPS)

        def projection(x: str, name: str) -> str:
            return g.silu_and_convolve(layer_norm(x, f"{name}.norm"), p.below(name))

        h = g.prelu(g.linear(x, p.below("input_projection")), p.below("input_prelu"))
        h = layer_norm(h, "input_norm")
        u, v = projection(h, "to_u"), projection(h, "to_v")
        projected = g.linear(g("Relu", g.linear(u, p.below("memory.linear"))), p.below("memory.project"))
        remembered = g("Add", u, self.dense_memory(projected, p.below("memory.dense")))
        gated = layer_norm(g("Add", g("Mul", v, remembered), h), "output_norm")
        return g("Add", x, g.linear(gated, p.below("output_projection")))

    def dense_memory(self, x: str, p: TrackedParameters) -> str:
        g = self.g

        def finish(y: str, layer: int) -> str:
            return g.prelu(g.norm(y, p.below(f"norm{layer}"), [2], NORM_EPS), p.below(f"prelu{layer}"))

        first = finish(g.depthwise(x, p["conv1.kernel"]), 1)
        both = g("Concat", first, x, axis=1)
        return finish(g.depthwise(both, p["conv2.kernel"], dilation=PairedConv.DILATION), 2)

    def decode(self, masked: str, mixture: str) -> str:
        """Transposed convolution, zero-padded to the length of the mixture; the gains of the outputs."""
        g, config = self.g, self.config
        x = g("Reshape", masked, g("Concat", g.integers(-1, config.encoder_channels), self.length, axis=0))
        kernel = g.weight(self.parameters["decoder.kernel"][:, None])
        y = g("ConvTranspose", x, kernel, strides=[config.stride], kernel_shape=[config.kernel_size])
        samples = g("Shape", mixture, start=1, end=2)
        missing = g("Sub", samples, g("Shape", y, start=2, end=3))
        y = g("Pad", y, g("Concat", g.integers(0, 0, 0, 0, 0), missing, axis=0))
        y = g("Reshape", y, g("Concat", g.integers(-1, config.num_sources), samples, axis=0))
        return g("Mul", y, g.column(config.output_gains or np.ones(config.num_sources)))
