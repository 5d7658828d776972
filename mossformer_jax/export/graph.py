"""Builds an ONNX graph node by node, with the layers that the model uses. Activations are `(b, channels, l)`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper


class TrackedParameters(Mapping[str, np.ndarray]):
    """Parameters by dotted name, or a part of them, that notes which ones were read.

    Args:
        arrays: all parameters.
        prefix: the part whose names start with it; names are then given without it.
        block: index of a block, for parameters that have an axis of blocks.
        read: full names of the parameters that were read.
    """

    def __init__(
        self, arrays: Mapping[str, np.ndarray], prefix: str = "", block: int | None = None, read: set[str] | None = None
    ):
        self._arrays, self._prefix, self._block = arrays, prefix, block
        self._read = set() if read is None else read

    def __getitem__(self, name: str) -> np.ndarray:
        array = np.asarray(self._arrays[self._prefix + name])
        self._read.add(self._prefix + name)
        return array if self._block is None else np.asarray(array[self._block])

    def __iter__(self) -> Iterator[str]:
        start = self._prefix
        return (name.removeprefix(start) for name in self._arrays if name.startswith(start))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def below(self, prefix: str) -> TrackedParameters:
        """The parameters below `prefix`, with the prefix and its dot removed from their names."""
        return TrackedParameters(self._arrays, f"{self._prefix}{prefix}.", self._block, self._read)

    def of_block(self, index: int) -> TrackedParameters:
        """The parameters of one block of the stack."""
        return TrackedParameters(self._arrays, self._prefix, index, self._read)

    def unread(self) -> list[str]:
        """The full names of all parameters that were not read."""
        return sorted(self._arrays.keys() - self._read)


class Graph:
    """The nodes and constants of a graph under construction. Methods take and return names of tensors.

    Args:
        float16: store the large weights in half precision; the graph still computes in float32.
    """

    def __init__(self, float16: bool = False):
        self.nodes: list[NodeProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], TensorProto] = {}
        self._casts: dict[str, str] = {}
        self._float16 = float16

    def __call__(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Adds a node; returns the name of its output, or a list of names if there are several."""
        names = [f"{operator}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """Adds a constant. Equal ones are stored once."""
        array = np.array(value, dtype, order="C")
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self._constants:
            self._constants[key] = numpy_helper.from_array(array, f"constant_{len(self._constants)}")
        return self._constants[key].name

    def integers(self, *values: int) -> str:
        """Adds an int64 vector, the type of shapes and axes."""
        return self.constant(values, np.int64)

    def column(self, vector: Any) -> str:
        """Adds a vector with one value per channel as a column, which is broadcast over time."""
        return self.constant(np.reshape(vector, (-1, 1)))

    def weight(self, array: np.ndarray) -> str:
        """Adds a large weight in the graph's storage format.

        Raises:
            ValueError: a value is outside the range of float16.
        """
        if not self._float16:
            return self.constant(array)
        if np.abs(array).max() > np.finfo(np.float16).max:
            raise ValueError("a weight is outside the range of float16; export without --float16")
        stored = self.constant(array, np.float16)
        if stored not in self._casts:
            self._casts[stored] = self("Cast", stored, to=TensorProto.FLOAT)
        return self._casts[stored]

    def linear(self, x: str, parameters: TrackedParameters) -> str:
        """A linear layer over the channels of each frame, as a convolution with one tap."""
        bias = [self.constant(parameters["bias"])] if "bias" in parameters else []
        return self("Conv", x, self.weight(parameters["kernel"].T[:, :, None]), *bias, kernel_shape=[1])

    def depthwise(self, x: str, kernel: np.ndarray, dilation: int = 1, residual: bool = False) -> str:
        """Convolves each channel over time, and adds the input if `residual`.

        The node is a two-dimensional convolution with a height of 1, which onnxruntime computes faster.

        Args:
            x: (b, e, l), or (b, 2e, l) for a paired kernel.
            kernel: (taps, e), or (taps, 2, e) for one output channel per pair of input channels. `taps` is odd.
            dilation: distance between taps, in frames.
            residual: whether to add the input; not for a paired kernel.
        """
        taps, channels = kernel.shape[0], kernel.shape[-1]
        weight = np.transpose(kernel.reshape(taps, -1, channels), (2, 1, 0)).copy()
        if residual:
            weight[:, 0, taps // 2] += 1.0
        reach = dilation * (taps // 2)
        # The residual adds 1 to the middle tap; float16 would then lose digits of the tap.
        stored = (self.constant if residual else self.weight)(weight[:, :, None])
        y = self(
            "Conv",
            self("Unsqueeze", x, self.integers(2)),
            stored,
            group=channels,
            kernel_shape=[1, taps],
            pads=[0, reach, 0, reach],
            dilations=[1, dilation],
        )
        return self("Squeeze", y, self.integers(2))

    def mean(self, x: str, axes: Sequence[int]) -> str:
        """Mean over axes, which are kept with size 1. It is taken one axis at a time: long float32 sums lose digits."""
        for axis in sorted(axes, reverse=True):
            x = self("ReduceMean", x, axes=[axis], keepdims=1)
        return x

    def norm(self, x: str, parameters: TrackedParameters, axes: Sequence[int], eps: float) -> str:
        """LayerNorm (axes 1), InstanceNorm (2) or GroupNorm (1 and 2), with gain and bias."""
        centred = self("Sub", x, self.mean(x, axes))
        variance = self.mean(self("Mul", centred, centred), axes)
        deviation = self("Sqrt", self("Add", variance, self.constant(eps)))
        scaled = self("Mul", self("Div", centred, deviation), self.column(parameters["scale"]))
        return self("Add", scaled, self.column(parameters["bias"]))

    def scale_norm(self, x: str, scale: np.ndarray, eps: float) -> str:
        """`x / max(rms, eps) * scale`, with the RMS over the channels of each frame."""
        mean_square = self("Max", self.mean(self("Mul", x, x), [1]), self.constant(eps**2))
        return self("Mul", x, self("Div", self.constant(scale), self("Sqrt", mean_square)))

    def prelu(self, x: str, parameters: TrackedParameters) -> str:
        """Leaky ReLU with one slope, or one per channel."""
        return self("PRelu", x, self.column(parameters["slope"]))

    def silu_and_convolve(self, x: str, parameters: TrackedParameters) -> str:
        """The part of a ConvProjection after its norm: linear layer, SiLU, depthwise convolution with residual."""
        z = self.linear(x, parameters.below("linear"))
        return self.depthwise(self("Mul", z, self("Sigmoid", z)), parameters["conv.kernel"], residual=True)

    def wave(self, function: str, angles: str) -> str:
        """Sine or cosine, in float64, because onnxruntime's float32 version has an error of 1e-5 at 1000 radians."""
        return self("Cast", self(function, self("Cast", angles, to=TensorProto.DOUBLE)), to=TensorProto.FLOAT)

    def model(self, inputs: list[Any], outputs: list[Any], opset: int, metadata: Mapping[str, str]) -> Any:
        """The finished ONNX model.

        Args:
            inputs: the graph's inputs, as `ValueInfoProto`.
            outputs: the graph's outputs, as `ValueInfoProto`.
            opset: version of the ONNX operators.
            metadata: properties of the model, by name.

        Returns:
            A `ModelProto`.
        """
        graph = helper.make_graph(self.nodes, "mossformer", inputs, outputs, list(self._constants.values()))
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9, producer_name="mossformer-jax"
        )
        helper.set_model_props(model, dict(metadata))
        return model
