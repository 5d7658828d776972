"""Profiles a compiled program by layer, using the names of `jax.named_scope`."""

from __future__ import annotations

import collections
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import jax

# In HLO text, an operation is its name and the rest of its line; a computation's name precedes its operations.
_OPERATION = re.compile(r"^\s*(?:ROOT )?%([\w.\-]+) = (.*)$")
_COMPUTATION = re.compile(r"^%([\w.\-]+) .*\{$")
_PATH = re.compile(r'op_name="([^"]*)"')
_SCOPES = ("attention", "fsmn", "conv_projection", "depthwise_conv", "dropout", "quadratic", "linear", "memory")
_SCOPES += ("encoder", "decoder", "mask_net")


def time_by_layer(program: str, run: Callable[[], object]) -> dict[str, float]:
    """Measures the seconds of one run by layer; operations that run in parallel both count in full.

    Args:
        program: HLO text of the compiled program.
        run: runs the program once and waits for the result.
    """
    layers = layers_of(program)
    seconds: dict[str, float] = collections.defaultdict(float)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            run()
        (file,) = Path(folder).glob("**/*.xplane.pb")
        for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
            for line in plane.lines:
                for event in line.events:
                    # Loops and calls include the time of their operations, which have separate events.
                    if "hlo_op" in dict(event.stats) and not event.name.startswith(("while", "call", "jit_")):
                        seconds[layers.get(event.name, "without a name")] += event.duration_ns / 1e9
    return dict(seconds)


def layers_of(program: str) -> dict[str, str]:
    """Assigns each operation of a program to a layer.

    Most operations that XLA creates have no name. A fusion then gets the name of an operation in it, and any other
    operation the name of one of its operands.
    """
    paths: dict[str, str] = {}
    rest: dict[str, str] = {}
    members: dict[str, list[str]] = collections.defaultdict(list)
    computation = ""
    for line in program.splitlines():
        if started := _COMPUTATION.match(line):
            computation = started[1]
        elif found := _OPERATION.match(line):
            name, rest[found[1]] = found[1], found[2]
            members[computation].append(name)
            if path := _PATH.search(found[2]):
                paths[name] = path[1]
    for name, text in rest.items():  # operands precede their users
        if name in paths:
            continue
        (called,) = re.findall(r"calls=%([\w.\-]+)", text) or [""]
        read = re.findall(r"%([\w.\-]+)", text.split("calls=")[0])
        origins = [paths[other] for other in [*reversed(members[called]), *read] if "/" in paths.get(other, "")]
        if origins:
            paths[name] = origins[0] + ("/dot_general" if " dot(" in text or "ynn_fusion" in text else "")
    return {name: layer_of(path) for name, path in paths.items()}


def layer_of(path: str) -> str:
    """Maps "jit(f)/mask_net/while/body/attention/quadratic/dot_general" to "attention/quadratic/product"."""
    scopes = [part for part in path.split("/") if part in _SCOPES]
    if len(scopes) > 1:
        scopes = [scope for scope in scopes if scope != "mask_net"]
    products = ["product"] if path.endswith("dot_general") else []
    return "/".join(scopes + products) or "outside the network"
