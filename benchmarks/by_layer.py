"""Where the time of a compiled program goes, by the names of the layers in `jax.named_scope`."""

from __future__ import annotations

import collections
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import jax

# One operation of XLA's text: its name, and the path of scopes that its metadata keeps.
_OPERATION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = .*op_name=\"([^\"]*)\"", re.MULTILINE)
_SCOPES = ("attention", "fsmn", "conv_projection", "depthwise_conv", "dropout", "quadratic", "linear", "memory")
_SCOPES += ("encoder", "decoder", "mask_net")


def time_by_layer(program: str, run: Callable[[], object]) -> dict[str, float]:
    """Seconds of one run by layer; operations that run beside each other both count in full.

    Args:
        program: the compiled program's text.
        run: executes it once and waits for it.
    """
    layers = {name: layer_of(path) for name, path in _OPERATION.findall(program)}
    seconds: dict[str, float] = collections.defaultdict(float)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            run()
        (file,) = Path(folder).glob("**/*.xplane.pb")
        for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
            for line in plane.lines:
                for event in line.events:
                    # A loop or a call lasts as long as what is in it, which has events of its own.
                    if "hlo_op" in dict(event.stats) and not event.name.startswith(("while", "call", "jit_")):
                        seconds[layers.get(event.name, "copies and transposes by XLA")] += event.duration_ns / 1e9
    return dict(seconds)


def layer_of(path: str) -> str:
    """ "jit(f)/mask_net/while/body/attention/quadratic/dot_general" -> "attention/quadratic/dot_general"."""
    scopes = [part for part in path.split("/") if part in _SCOPES]
    if len(scopes) > 1:
        scopes = [scope for scope in scopes if scope != "mask_net"]
    products = ["product"] if path.endswith("dot_general") else []
    return "/".join(scopes + products) or "outside of the network"
