"""An interpreter of pickle's opcodes that builds only plain containers and the listed classes.

Python's own unpickler imports and calls whatever a file names. Here a name is looked up in a dict, and a name that is
not in it is an error. No opcode imports, looks up attributes or calls anything else, and every length is checked
against the data before memory is allocated.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

# A real checkpoint's pickle takes about 150 bytes per tensor.
MAX_PICKLE_BYTES = 2**24
# Containers and memo entries. Some take only one byte of the file, but about 100 bytes of memory.
MAX_OBJECTS = 2**21
_MAX_INTEGER_BYTES = 64
_LONGEST_NAME = 80
_HIGHEST_PROTOCOL = 5
_KEY_TYPES = (str, int, float, bool, bytes, type(None))


class PickleError(ValueError):
    """Damaged or refused data; the message is one line without the file's name."""


@dataclass(frozen=True)
class Global:
    """A class or function that a pickle may name.

    Attributes:
        name: its full name, such as "torch.FloatStorage".
        build: makes the object from the arguments in the file; None if the name is only used as a value.
    """

    name: str
    build: Callable[..., Any] | None = None


def printable(text: str) -> str:
    """A name from a file as it may be shown: ASCII on one line, cut if it is long."""
    shown = ascii(text)[1:-1]
    return shown if len(shown) <= _LONGEST_NAME else shown[:_LONGEST_NAME] + "..."


def unpickle(
    data: bytes | memoryview,
    globals_by_name: Mapping[str, Global],
    persistent_load: Callable[[Any], Any],
    start: int = 0,
) -> tuple[Any, int]:
    """Reads one pickle.

    Args:
        data: bytes that contain the pickle.
        globals_by_name: everything that the pickle may name.
        persistent_load: resolves a persistent id (in a PyTorch file, the description of a storage).
        start: where the pickle starts in the data.

    Returns:
        The object, and the position after the pickle.

    Raises:
        PickleError: the pickle is damaged, too large, or names something that is not listed.
    """
    return _Unpickler(data, globals_by_name, persistent_load, start).load()


class _Unpickler:
    def __init__(self, data, globals_by_name, persistent_load, start):
        self._data = memoryview(data)[: start + MAX_PICKLE_BYTES]
        self._position = start
        self._globals = globals_by_name
        self._persistent_load = persistent_load
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._num_objects = 0

    def load(self) -> tuple[Any, int]:
        while True:
            opcode = self._take(1)[0]
            if opcode == _STOP:
                return self._pop(), self._position
            operation = _OPERATIONS.get(opcode)
            if operation is None:
                raise PickleError(f"contains the pickle opcode 0x{opcode:02x}, which is not supported")
            operation(self)

    def _take(self, count: int) -> memoryview:
        end = self._position + count
        if end > len(self._data):
            raise PickleError("is damaged (its pickle is cut off, or too large)")
        taken = self._data[self._position : end]
        self._position = end
        return taken

    def _unpack(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _push_new(self, value: Any) -> None:
        self._count_object()
        self._stack.append(value)

    def _count_object(self) -> None:
        self._num_objects += 1
        if self._num_objects > MAX_OBJECTS:
            raise PickleError(f"contains more than {MAX_OBJECTS:,} objects")

    def _pop(self) -> Any:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise PickleError("is damaged (its pickle takes more from the stack than is on it)")
        return self._stack.pop()

    def _top(self, kinds: type | tuple[type, ...]) -> Any:
        top = self._pop()
        self._stack.append(top)
        # Exact types: a global or an array is never filled or changed.
        if type(top) not in (kinds if isinstance(kinds, tuple) else (kinds,)):
            raise PickleError(f"is damaged (its pickle treats a {type(top).__name__} as a container)")
        return top

    def _pop_to_mark(self) -> list[Any]:
        if not self._marks:
            raise PickleError("is damaged (a mark is missing in its pickle)")
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _mark(self) -> None:
        self._count_object()
        self._marks.append(len(self._stack))

    def _protocol(self) -> None:
        if (protocol := self._take(1)[0]) > _HIGHEST_PROTOCOL:
            raise PickleError(f"has pickle protocol {protocol}; protocols up to {_HIGHEST_PROTOCOL} are read")

    def _integer(self, form: str) -> None:
        count = self._unpack(form)
        if not 0 <= count <= _MAX_INTEGER_BYTES:
            raise PickleError("is damaged (an integer in its pickle is too long)")
        self._push(int.from_bytes(self._take(count), "little", signed=True))

    def _text(self, form: str) -> None:
        try:
            self._push(str(self._take(self._length(form)), "utf-8", "surrogatepass"))
        except UnicodeDecodeError:
            raise PickleError("is damaged (a text in its pickle is not UTF-8)") from None

    def _bytes(self, form: str) -> None:
        self._push(bytes(self._take(self._length(form))))

    def _old_text(self, form: str) -> None:
        """A string of Python 2, where names are such strings."""
        self._push(str(self._take(self._length(form)), "latin-1"))

    def _length(self, form: str) -> int:
        length = self._unpack(form)
        if length < 0:
            raise PickleError("is damaged (a length in its pickle is negative)")
        return length

    def _tuple(self, count: int) -> None:
        items = [self._pop() for _ in range(count)]
        self._push_new(tuple(reversed(items)))

    def _append(self) -> None:
        value = self._pop()
        self._top(list).append(value)

    def _appends(self) -> None:
        items = self._pop_to_mark()
        self._top(list).extend(items)

    def _set_items(self, items: list[Any]) -> None:
        if len(items) % 2:
            raise PickleError("is damaged (a key without a value in its pickle)")
        target = self._top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[check_key(key)] = value

    def _set_item(self) -> None:
        value = self._pop()
        self._set_items([self._pop(), value])

    def _dict_of_marked(self) -> None:
        items = self._pop_to_mark()
        self._push_new({})
        self._set_items(items)

    def _add_items(self) -> None:
        items = self._pop_to_mark()
        self._top(set).update(map(check_key, items))

    def _global(self) -> None:
        module, name = self._line(), self._line()
        self._push_global(f"{module}.{name}")

    def _line(self) -> str:
        rest = bytes(self._data[self._position : self._position + 2**10])
        end = rest.find(b"\n")
        if end < 0:
            raise PickleError("is damaged (a name in its pickle does not end)")
        self._position += end + 1
        return rest[:end].decode("latin-1")

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise PickleError("is damaged (a name in its pickle is not text)")
        self._push_global(f"{module}.{name}")

    def _push_global(self, name: str) -> None:
        found = self._globals.get(name)
        if found is None:
            raise PickleError(
                f"contains {printable(name)}, which is not unpickled (only tensors, numbers, text and containers are)"
            )
        self._push(found)

    def _build_object(self) -> None:
        arguments, target = self._pop(), self._pop()
        if type(target) is not Global or target.build is None or type(arguments) is not tuple:
            raise PickleError("is damaged (its pickle calls something that is not a class)")
        try:
            self._push_new(target.build(*arguments))
        except TypeError:
            raise PickleError(f"is damaged (wrong arguments of {target.name})") from None

    def _set_state(self) -> None:
        """Drops the attributes of a container or tensor, such as the `_metadata` of a state dict."""
        self._pop()
        if isinstance(self._pop_and_keep(), Global):
            raise PickleError("is damaged (its pickle changes a class)")

    def _pop_and_keep(self) -> Any:
        top = self._pop()
        self._stack.append(top)
        return top

    def _remember(self, index: int) -> None:
        self._count_object()
        self._memo[index] = self._pop_and_keep()

    def _recall(self, form: str) -> None:
        index = self._unpack(form)
        if index not in self._memo:
            raise PickleError("is damaged (its pickle refers to an object that it does not contain)")
        self._push(self._memo[index])

    def _persistent(self) -> None:
        self._push_new(self._persistent_load(self._pop()))


def check_key(key: Any) -> Any:
    """The key of a dict, if it is of a plain type. A nested tuple could take exponential time to hash.

    Raises:
        PickleError: it is of another type.
    """
    if type(key) not in _KEY_TYPES:
        raise PickleError(f"contains a dict or set with a key of type {type(key).__name__}, which is not supported")
    return key


_STOP = ord(".")
# fmt: off
_OPERATIONS: dict[int, Callable[[_Unpickler], Any]] = {code[0]: operation for code, operation in {
    b"\x80": _Unpickler._protocol, b"\x95": lambda u: u._take(8), b"(": _Unpickler._mark, b"0": lambda u: u._pop(),
    b"1": lambda u: u._pop_to_mark(), b"2": lambda u: u._push(u._pop_and_keep()), b"N": lambda u: u._push(None),
    b"\x88": lambda u: u._push(True), b"\x89": lambda u: u._push(False), b"J": lambda u: u._push(u._unpack("<i")),
    b"K": lambda u: u._push(u._unpack("<B")), b"M": lambda u: u._push(u._unpack("<H")),
    b"\x8a": lambda u: u._integer("<B"), b"\x8b": lambda u: u._integer("<i"),
    b"G": lambda u: u._push(u._unpack(">d")), b"X": lambda u: u._text("<I"), b"\x8c": lambda u: u._text("<B"),
    b"\x8d": lambda u: u._text("<Q"), b"U": lambda u: u._old_text("<B"), b"T": lambda u: u._old_text("<i"),
    b"B": lambda u: u._bytes("<I"), b"C": lambda u: u._bytes("<B"), b"\x8e": lambda u: u._bytes("<Q"),
    b"]": lambda u: u._push_new([]), b"l": lambda u: u._push_new(u._pop_to_mark()), b"a": _Unpickler._append,
    b"e": _Unpickler._appends, b")": lambda u: u._push(()), b"t": lambda u: u._push_new(tuple(u._pop_to_mark())),
    b"\x85": lambda u: u._tuple(1), b"\x86": lambda u: u._tuple(2), b"\x87": lambda u: u._tuple(3),
    b"}": lambda u: u._push_new({}), b"d": _Unpickler._dict_of_marked, b"s": _Unpickler._set_item,
    b"u": lambda u: u._set_items(u._pop_to_mark()), b"\x8f": lambda u: u._push_new(set()),
    b"\x90": _Unpickler._add_items, b"\x91": lambda u: u._push_new(set(map(check_key, u._pop_to_mark()))),
    b"c": _Unpickler._global, b"\x93": _Unpickler._stack_global, b"R": _Unpickler._build_object,
    b"\x81": _Unpickler._build_object, b"b": _Unpickler._set_state, b"q": lambda u: u._remember(u._unpack("<B")),
    b"r": lambda u: u._remember(u._unpack("<I")), b"\x94": lambda u: u._remember(len(u._memo)),
    b"h": lambda u: u._recall("<B"), b"j": lambda u: u._recall("<I"), b"Q": _Unpickler._persistent,
}.items()}
# fmt: on
