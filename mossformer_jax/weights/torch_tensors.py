"""The only classes that a PyTorch file may contain, and tensors as views of its bytes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from mossformer_jax.weights.pickles import Global, PickleError, check_key, printable

# By the name of torch's dtype. NumPy has no bfloat16 and float8; JAX brings them.
DTYPES: dict[str, np.dtype] = {
    name: np.dtype(getattr(jnp, name, None) or getattr(np, name))
    for name in (
        *("float16", "float32", "float64", "bfloat16", "complex64", "complex128", "bool"),
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"),
    )
}
STORAGES = {
    "HalfStorage": "float16",
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "BFloat16Storage": "bfloat16",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "BoolStorage": "bool",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "ByteStorage": "uint8",
}
_MAX_AXES = 32
# A tensor may repeat elements of its storage (stride 0), so its size is not bounded by the file's.
_MAX_EXPANSION = 8
_SLACK_BYTES = 2**20


@dataclass(frozen=True)
class Storage:
    """The bytes behind tensors.

    Attributes:
        data: the bytes, uint8; a view of the file.
        dtype: the type of the elements; None if only the tensors have it.
    """

    data: np.ndarray
    dtype: np.dtype | None


class Tensors:
    """Makes arrays out of storages, and bounds their total size.

    Attributes:
        globals_by_name: everything that the pickle of a checkpoint may name.
    """

    def __init__(self, file_bytes: int):
        self._bytes_left = _MAX_EXPANSION * file_bytes + _SLACK_BYTES
        allowed: dict[str, Callable[..., Any] | None] = {
            "collections.OrderedDict": _plain_dict,
            "collections.Counter": _plain_dict,
            "builtins.set": _plain_set,
            "__builtin__.set": _plain_set,
            "builtins.complex": _complex,
            "__builtin__.complex": _complex,
            "_codecs.encode": _encode,
            "torch.Size": _size,
            "torch.device": _device,
            "torch.Tensor": None,
            "torch.nn.parameter.Parameter": None,
            "torch._utils._rebuild_tensor": self._rebuild,
            "torch._utils._rebuild_tensor_v2": self._rebuild,
            "torch._utils._rebuild_tensor_v3": self._rebuild_v3,
            "torch._utils._rebuild_parameter": _rebuild_parameter,
            "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
            "torch._tensor._rebuild_from_type_v2": _rebuild_from_type,
            "torch.storage.UntypedStorage": None,
            **{f"torch.{name}": None for name in (*STORAGES, *DTYPES)},
        }
        self.globals_by_name = {name: Global(name, build) for name, build in allowed.items()}

    def _rebuild(self, storage, offset, size, stride, requires_grad=False, hooks=None, metadata=None, *, dtype=None):
        dtype = dtype or getattr(storage, "dtype", None)
        if not isinstance(storage, Storage) or dtype is None:
            raise PickleError("is damaged (a tensor without a storage, or without a type)")
        if metadata is not None and (type(metadata) is not dict or metadata):
            raise PickleError("contains a conjugated or negated view, which is not supported; save its clone")
        return self._view(storage.data, dtype, offset, size, stride)

    def _rebuild_v3(self, storage, offset, size, stride, requires_grad, hooks, dtype, metadata=None):
        name = dtype.name.removeprefix("torch.") if isinstance(dtype, Global) else None
        if name not in DTYPES:
            raise PickleError("is damaged (a tensor of an unknown type)")
        return self._rebuild(storage, offset, size, stride, metadata=metadata, dtype=DTYPES[name])

    def _view(self, data: np.ndarray, dtype: np.dtype, offset: Any, size: Any, stride: Any) -> np.ndarray:
        numbers_are_valid = (
            type(size) is tuple
            and type(stride) is tuple
            and len(size) == len(stride) <= _MAX_AXES
            and all(type(number) is int and 0 <= number < 2**62 for number in (offset, *size, *stride))
        )
        if not numbers_are_valid:
            raise PickleError("is damaged (a tensor whose sizes, strides or offset are not valid)")
        count = math.prod(size)
        self._bytes_left -= max(count, 1) * dtype.itemsize
        if self._bytes_left < 0:
            raise PickleError(f"contains tensors that take more than {_MAX_EXPANSION} times the size of the file")
        if count == 0:
            return _empty(size, dtype)
        last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
        if (last + 1) * dtype.itemsize > data.nbytes:
            raise PickleError("is damaged (a tensor that extends beyond its storage)")
        # An axis of length 1 may have any stride; NumPy checks that it fits.
        steps = [step * dtype.itemsize if length > 1 else 0 for length, step in zip(size, stride, strict=True)]
        return np.ndarray(size, dtype, buffer=data, offset=offset * dtype.itemsize, strides=steps)


def _empty(size: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    try:
        return np.empty(size, dtype)
    except ValueError:  # the product of the other axes is too large for NumPy
        raise PickleError("is damaged (a tensor whose sizes, strides or offset are not valid)") from None


def storage_dtype(kind: Any) -> np.dtype | None:
    """The type of the elements of a storage class; None for an untyped storage.

    Raises:
        PickleError: it is not a storage class.
    """
    name = kind.name if isinstance(kind, Global) else type(kind).__name__
    if name == "torch.storage.UntypedStorage":
        return None
    known = STORAGES.get(name.removeprefix("torch."))
    if known is None:
        raise PickleError(f"is damaged ({printable(name)} is not a storage)")
    return DTYPES[known]


def _plain_dict(items: Any = ()) -> dict[Any, Any]:
    pairs = items.items() if type(items) is dict else items
    if type(items) not in (dict, list, tuple) or any(type(p) not in (tuple, list) or len(p) != 2 for p in pairs):
        raise PickleError("is damaged (a dict that is not made of pairs)")
    return {check_key(key): value for key, value in pairs}


def _plain_set(items: Any = ()) -> set[Any]:
    if type(items) not in (list, tuple, set):
        raise PickleError("is damaged (a set that is not made of a list)")
    return set(map(check_key, items))


def _complex(real: Any = 0.0, imaginary: Any = 0.0) -> complex:
    if type(real) is not float or type(imaginary) is not float:
        raise PickleError("is damaged (a complex number that is not made of two numbers)")
    return complex(real, imaginary)


def _encode(text: Any, encoding: Any = None) -> bytes:
    """The form that bytes have in protocol 2."""
    if type(text) is not str or type(encoding) is not str or encoding != "latin1":
        raise PickleError("is damaged (bytes in an unknown encoding)")
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise PickleError("is damaged (bytes in an unknown encoding)") from None


def _size(sizes: Any = ()) -> tuple[Any, ...]:
    if type(sizes) not in (tuple, list):
        raise PickleError("is damaged (a size that is not made of a list)")
    return tuple(sizes)


def _device(name: Any, index: Any = None) -> str:
    if type(name) is not str or type(index) not in (int, type(None)):
        raise PickleError("is damaged (a device without a name)")
    return name if index is None else f"{name}:{index}"


def _rebuild_parameter(data: Any, requires_grad: Any, hooks: Any, state: Any = None) -> np.ndarray:
    if not isinstance(data, np.ndarray):
        raise PickleError("is damaged (a parameter that is not a tensor)")
    return data


def _rebuild_from_type(function: Any, kind: Any, arguments: Any, state: Any) -> np.ndarray:
    """A tensor with additional attributes, which are dropped."""
    if not isinstance(function, Global) or not function.name.startswith("torch._utils._rebuild_"):
        raise PickleError("is damaged (a tensor made by something else)")
    if function.build is None or type(arguments) is not tuple:
        raise PickleError("is damaged (a tensor without arguments)")
    return function.build(*arguments)
