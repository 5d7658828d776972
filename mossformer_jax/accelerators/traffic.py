"""Estimates the memory traffic of a compiled program from its HLO text; the body of a loop counts once per iteration.

XLA's own cost analysis counts the body of a loop once, so that the 24 blocks of a scanned stack would count as one, and
it does not work for a GPU without the hardware. The rules are those of XLA: every instruction outside a fusion reads
its operands and writes its result; if only a slice of a buffer is read or written, only the slice counts. On-chip
memory (memory spaces other than 0) is free.
"""

from __future__ import annotations

import math
import re
from functools import cache
from typing import NamedTuple

_ARRAY = re.compile(r"\b(pred|token|[a-z]+\d+[a-z0-9]*)\[([\d,]*)\](\{[^}]*\})?")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_CALLED = re.compile(r"\b(?:calls|to_apply|body|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_CONDITION = re.compile(r"\bcondition=%?([\w.\-]+)")
_WITHOUT_TRAFFIC = re.compile(r'custom_call_target="(?:AllocateBuffer|ConcatBitcast)"')

# These instructions only name or view existing buffers.
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id"}
_VIEWS = {"bitcast", "reshape", "get-tuple-element", "copy-done"}
_SLICES = {"dynamic-slice", "slice", "gather"}


class _Instruction(NamedTuple):
    name: str
    shape: str
    opcode: str
    operands: list[str]
    attributes: str


class _Computation:
    """The instructions of a computation by name, and the users of each result with the operand position."""

    def __init__(self, instructions: dict[str, _Instruction], root: str):
        self.instructions, self.root = instructions, root
        self.parameters = {one.operands[0]: one for one in instructions.values() if one.opcode == "parameter"}
        self.users: dict[str, list[tuple[_Instruction, int]]] = {}
        for user in instructions.values():
            for position, operand in enumerate(user.operands):
                self.users.setdefault(operand, []).append((user, position))


def bytes_moved(text: str) -> float:
    """Bytes read from and written to the main memory of one device in one run of a program.

    Args:
        text: the compiled program, as returned by `compiled.as_text()`.
    """
    return _Program(text).run_bytes()


class _Program:
    def __init__(self, text: str):
        self.computations, self.entry = _parse(text)
        self.bytes_of, self.read = cache(self._bytes_of), cache(self._read)

    def run_bytes(self) -> float:
        return self.bytes_of(self.entry)

    def _bytes_of(self, name: str) -> float:
        """Bytes moved by one run of a computation that is not fused."""
        computation = self.computations[name]
        return sum(self._instruction_bytes(one, computation) for one in computation.instructions.values())

    def _instruction_bytes(self, instruction: _Instruction, computation: _Computation) -> float:
        opcode, attributes = instruction.opcode, instruction.attributes
        operands = [computation.instructions[name] for name in instruction.operands if name in computation.instructions]
        if opcode in _FREE or opcode.endswith(("-done", "-update")) or _WITHOUT_TRAFFIC.search(attributes):
            return 0.0
        if opcode == "while":
            return self._trips(attributes) * self.bytes_of(_called(attributes)[-1])
        if opcode == "conditional":
            return max(map(self.bytes_of, _called(attributes)))
        if opcode in ("call", "async-start"):
            return sum(map(self.bytes_of, _called(attributes)))
        if opcode == "fusion":
            (fused,) = _called(attributes)
            read = sum(min(self.read(fused, i), _size(operand.shape)) for i, operand in enumerate(operands))
            return read + self._written(fused, instruction.shape)
        if opcode in ("copy-start", "slice-start"):
            source, destination, *_ = sorted(_parts(instruction.shape), key=_extent, reverse=True)
            return _extent(destination) * (_in_main_memory(source) + _in_main_memory(destination))
        if opcode in _SLICES:
            return 2 * _size(instruction.shape)
        if opcode == "dynamic-update-slice":
            return 2 * _size(operands[1].shape)
        return sum(_size(operand.shape) for operand in operands) + _size(instruction.shape)

    def _trips(self, attributes: str) -> int:
        """Iterations of a loop. The TPU compiler gives no count, but the condition compares with one constant."""
        if known := _TRIPS.search(attributes):
            return int(known[1])
        condition = self.computations[_CONDITION.findall(attributes)[0]]
        constants = [one for one in condition.instructions.values() if one.opcode == "constant"]
        return int(constants[0].operands[0]) if len(constants) == 1 and constants[0].operands[0].isdecimal() else 1

    def _read(self, fused: str, index: int) -> float:
        """Bytes that a fusion reads of the operand with this index."""
        computation = self.computations[fused]
        return self._read_of(computation, computation.parameters[str(index)])

    def _read_of(self, computation: _Computation, source: _Instruction) -> float:
        total = 0.0
        for user, position in computation.users.get(source.name, ()):
            if user.opcode in _SLICES and position == 0:
                total += _size(user.shape)
            elif user.opcode == "dynamic-update-slice" and position == 0:
                continue
            elif user.opcode in _VIEWS:
                total += self._read_of(computation, user)
            elif user.opcode == "fusion":
                total += self.read(_called(user.attributes)[0], position)
            else:
                return _size(source.shape)
        return total

    def _written(self, fused: str, shape: str) -> float:
        """Bytes that a fusion with a result of this shape writes."""
        if "S(" in shape and not _size(shape):
            return 0.0
        computation = self.computations[fused]
        return self._written_by(computation, computation.instructions[computation.root], shape)

    def _written_by(self, computation: _Computation, root: _Instruction, shape: str) -> float:
        inside = computation.instructions
        if root.opcode == "tuple":
            written = zip(root.operands, _parts(shape), strict=True)
            return sum(self._written_by(computation, inside[name], part) for name, part in written)
        if root.opcode == "dynamic-update-slice":
            return min(_size(inside[root.operands[1]].shape), _size(shape))
        if root.opcode in ("bitcast", "reshape"):
            return self._written_by(computation, inside[root.operands[0]], shape)
        if root.opcode == "fusion":
            return self._written(_called(root.attributes)[0], shape)
        return _size(shape)


def _parse(text: str) -> tuple[dict[str, _Computation], str]:
    computations: dict[str, _Computation] = {}
    entry, name, root = "", "", ""
    instructions: dict[str, _Instruction] = {}
    for line in text.splitlines():
        if header := _COMPUTATION.match(line):
            name, instructions, root = header[2], {}, ""
            entry = name if header[1] else entry
        elif line == "}" and name:
            computations[name] = _Computation(instructions, root)
            name = ""
        elif name and (match := _INSTRUCTION.match(line)):
            instructions[match[2]] = _instruction(match[2], match[3])
            root = match[2] if match[1] else root
    if not entry:
        raise ValueError("the text is not a compiled program: it has no ENTRY computation")
    return computations, entry


def _instruction(name: str, rest: str) -> _Instruction:
    """Parses `SHAPE OPCODE(OPERANDS), ATTRIBUTES`."""
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    shape, rest = rest[:end], rest[end:].lstrip()
    opening = rest.index("(")
    closing = _closing(rest, opening)
    inside = rest[opening + 1 : closing]
    operands = [inside] if rest[:opening] in ("parameter", "constant") else re.findall(r"%([\w.\-]+)", inside)
    return _Instruction(name, shape, rest[:opening], operands, rest[closing + 1 :])


def _closing(text: str, start: int) -> int:
    depth = 0
    for index in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[index], 0)
        if depth == 0:
            return index
    return len(text)


def _called(attributes: str) -> list[str]:
    branches = _BRANCHES.search(attributes)
    if branches:
        return [name.strip().lstrip("%") for name in branches[1].split(",")]
    return _CALLED.findall(attributes)


def _parts(shape: str) -> list[str]:
    """The arrays of a shape, in order."""
    return [match[0] for match in _ARRAY.finditer(shape)]


def _size(shape: str) -> float:
    """Bytes of the arrays of a shape that are in main memory."""
    return sum(_extent(part) for part in _parts(shape) if _in_main_memory(part))


def _in_main_memory(array: str) -> bool:
    space = re.search(r"S\((\d+)\)", array)
    return space is None or space[1] == "0"


def _extent(array: str) -> float:
    """Bytes of an array in any memory space."""
    (found,) = _ARRAY.finditer(array)
    dtype, dimensions = found[1], found[2]
    if dtype == "token":
        return 0.0
    bits = 8 if dtype == "pred" else int(re.sub(r"^\D+(\d+).*$", r"\1", dtype))
    return math.prod(map(int, filter(None, dimensions.split(",")))) * bits / 8
