"""The supported chips and topologies, and the errors for unknown chips and missing compilers."""

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
def test_a_topology_gives_the_number_of_chips(text, shown, count):
    target = parse_target(text)
    assert str(target) == shown
    assert target.num_chips == count


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("v2", "unknown chip; choose from v5e, v6e, v5p, h100"),
        ("v5e:4", "for v5e, pass 2 numbers of chips, as in v5e:4x4"),
        ("v5e:", "as in v5e:4x4"),
        ("v5p:4x4", "for v5p, pass 3 numbers of chips, as in v5p:2x2x2"),
        ("v5e:0x4", "as in v5e:4x4"),
        ("h100:1x8", "for h100, pass a number of GPUs, as in h100:8"),
    ],
)
def test_errors_for_unknown_chips_and_topologies_list_the_choices(text, advice):
    with pytest.raises(ValueError, match=advice):
        parse_target(text)


@pytest.mark.parametrize(("name", "extra"), [("v5e", r"mossformer-jax\[tpu\]"), ("h100", r"mossformer-jax\[cuda13\]")])
def test_the_error_for_a_missing_compiler_names_the_extra_to_install(monkeypatch, name, extra):
    monkeypatch.setattr(chips, "_is_installed", lambda module: False)
    with pytest.raises(ValueError, match=f"pip install '{extra}'"):
        compile_only_devices(parse_target(name))


@pytest.mark.own_checks  # the devices are mocks
@pytest.mark.parametrize("plugin", ["jax_plugins.xla_cuda12", "jax_plugins.xla_cuda13"])
def test_either_cuda_plugin_compiles_for_an_h100(monkeypatch, plugin):
    requested = []
    monkeypatch.setattr(chips, "_is_installed", lambda module: module == plugin)
    monkeypatch.setattr(topologies, "get_topology_desc", lambda *names, **options: requested.append(names) or Mock())
    compile_only_devices(parse_target("h100"))
    assert requested == [("h100",)]


def test_some_memory_is_kept_free():
    for chip in CHIPS.values():
        assert 0.9 * chip.memory < chip.budget < chip.memory
