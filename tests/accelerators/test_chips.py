"""Which chips there are, and what is said where one cannot be compiled for."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
from jax.experimental import topologies

from mossformer_jax.accelerators import chips
from mossformer_jax.accelerators.chips import CHIPS, compile_only_devices, parse_target


@pytest.mark.parametrize(
    ("text", "shown", "count"),
    [("v5e", "v5e:1x1", 1), ("v5e:4x4", "v5e:4x4", 16), ("v5p:2x2x2", "v5p:2x2x2", 8), ("h100:8", "h100:8", 8)],
)
def test_a_topology_is_a_number_of_chips(text, shown, count):
    target = parse_target(text)
    assert str(target) == shown
    assert target.num_chips == count


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("v2", "there are v5e, v6e, v5p, h100"),
        ("v5e:4", "that of v5e is 2 numbers of chips, as v5e:4x4"),
        ("v5e:", "as v5e:4x4"),
        ("v5p:4x4", "that of v5p is 3 numbers of chips, as v5p:2x2x2"),
        ("v5e:0x4", "as v5e:4x4"),
        ("h100:1x8", "that of h100 is a number of GPUs, as h100:8"),
    ],
)
def test_another_chip_or_topology_is_refused_with_those_that_there_are(text, advice):
    with pytest.raises(ValueError, match=advice):
        parse_target(text)


@pytest.mark.parametrize(("name", "extra"), [("v5e", r"mossformer-jax\[tpu\]"), ("h100", r"mossformer-jax\[cuda13\]")])
def test_a_compiler_that_is_missing_is_named(monkeypatch, name, extra):
    monkeypatch.setattr(chips, "_is_installed", lambda module: False)
    with pytest.raises(ValueError, match=f"pip install '{extra}'"):
        compile_only_devices(parse_target(name))


@pytest.mark.parametrize("plugin", ["jax_plugins.xla_cuda12", "jax_plugins.xla_cuda13"])
def test_either_cuda_plugin_compiles_for_an_h100(monkeypatch, plugin):
    asked = []
    monkeypatch.setattr(chips, "_is_installed", lambda module: module == plugin)
    monkeypatch.setattr(topologies, "get_topology_desc", lambda *names, **options: asked.append(names) or Mock())
    compile_only_devices(parse_target("h100"))
    assert asked == [("h100",)]


def test_some_memory_is_kept_free():
    for chip in CHIPS.values():
        assert 0.9 * chip.memory < chip.budget < chip.memory
