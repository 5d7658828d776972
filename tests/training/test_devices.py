"""Training gives the same result on any number of devices for the same global batch."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from mossformer_jax.sharding import DATA, FSDP, by_shape, check_rows, make_mesh
from tests.conftest import FAST_COMPILATION, PYTHONPATH, REPOSITORY
from tests.training.eight_devices import MESHES


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[str, np.ndarray]:
    """The results of eight_devices.py in float64, where differences other than rounding are visible."""
    file = tmp_path_factory.mktemp("devices") / "found.npz"
    environment = {
        "PYTHONPATH": PYTHONPATH,
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_X64": "1",
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
        "XLA_FLAGS": f"{FAST_COMPILATION} --xla_force_host_platform_device_count=8",
    }
    script = REPOSITORY / "tests" / "training" / "eight_devices.py"
    # Warnings are errors: deprecations above all.
    ended = subprocess.run(
        [sys.executable, "-W", "error", str(script), str(file)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert ended.returncode == 0, ended.stderr
    with np.load(file) as found:
        return dict(found)


@pytest.mark.slow
def test_mixtures_drawn_on_several_devices_are_those_of_one(trained):
    assert trained["drawn/2x4"].shape == (8, 2, 800)
    np.testing.assert_allclose(trained["drawn/2x4"], trained["drawn/1"], rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("mesh", list(MESHES)[1:])
def test_several_devices_take_the_steps_of_one(trained, mesh):
    losses = trained["losses/1"]
    assert len(set(losses)) == len(losses), "the loss did not change"
    np.testing.assert_allclose(trained[f"losses/{mesh}"], losses, rtol=1e-6)  # reported in float32
    names = [name.removeprefix("parameters/1/") for name in trained if name.startswith("parameters/1/")]
    assert names
    for name in names:
        ours, expected = trained[f"parameters/{mesh}/{name}"], trained[f"parameters/1/{name}"]
        # Sums in another order, 1e-16 of each; dropout's masks are the same. Adam divides by the size of a gradient,
        # so that those near its epsilon of 1e-8 are the least exact: 1e-3 (lr) * 1e-14 (of a gradient) / 1e-8.
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-8, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("mesh", list(MESHES)[1:])
def test_validation_on_several_devices_equals_that_on_one_with_partly_filled_batches(trained, mesh):
    assert np.ptp(trained["validated/1"][1:]) > 0, "the gains of both outputs are the same"
    # The mixtures are in float32.
    np.testing.assert_allclose(trained[f"validated/{mesh}"], trained["validated/1"], rtol=1e-5)


@pytest.mark.slow
def test_fsdp_shards_parameters_and_data_parallelism_replicates_them(trained):
    assert {mesh: float(trained[f"share/{mesh}"]) for mesh in MESHES} == {
        "1": 1.0,
        "2": 1.0,
        "8": 1.0,
        "2x4": 1 / 4,
        "1x8": 1 / 8,
    }


@pytest.mark.slow
@pytest.mark.parametrize(("mesh", "recorded"), [("1", 0), ("2", 2), ("8", 2), ("2x4", 6), ("1x8", 9)])
def test_the_step_has_no_more_all_reduces_than_recorded(trained, mesh, recorded):
    """All-reduces in the compiled step; a scanned block counts once."""
    assert trained[f"reductions/{mesh}"] <= recorded


@pytest.mark.parametrize(
    ("shape", "spec"),
    [
        ((512, 64), (FSDP, None)),
        ((64, 512), (None, FSDP)),
        ((24, 64, 512), (None, None, FSDP)),  # blocks of the stack, of which the first axis stays whole
        ((24, 512, 3), (None, FSDP, None)),
        ((512, 63), (FSDP, None)),
        ((63, 511), ()),  # nothing that 4 divides
        ((24, 63, 511), ()),
        ((16, 16), ()),  # too small to be worth a message
        ((), ()),
    ],
)
def test_parameters_are_sharded_along_the_longest_divisible_axis(shape, spec):
    mesh = AbstractMesh((2, 4), (DATA, FSDP), axis_types=(AxisType.Auto, AxisType.Auto))
    assert by_shape(mesh, shape).spec == PartitionSpec(*spec)


def test_without_fsdp_parameters_are_not_sharded():
    mesh = AbstractMesh((8, 1), (DATA, FSDP), axis_types=(AxisType.Auto, AxisType.Auto))
    assert by_shape(mesh, (512, 64)).spec == PartitionSpec()


@dataclasses.dataclass(frozen=True)
class Chip:
    """The attributes of a TPU chip that JAX uses to arrange a mesh."""

    device_kind: str
    coords: tuple[int, int, int]
    platform: str = "tpu"
    core_on_chip: int = 0
    slice_index: int = 0
    process_index: int = 0


@pytest.mark.parametrize("kind", ["TPU v5e", "TPU v6 lite", "TPU v5p"])
@pytest.mark.parametrize("fsdp", [1, 2, 8, 16])
@pytest.mark.own_checks  # a Chip is not a jax.Device
def test_chips_can_be_divided_by_any_number_that_divides_them(kind, fsdp):
    chips = [Chip(kind, (x, y, 0)) for y in range(4) for x in range(4)]
    mesh = make_mesh(fsdp, chips)
    assert mesh.shape == {DATA: 16 // fsdp, FSDP: fsdp}
    assert set(mesh.devices.flat) == set(chips)


@pytest.mark.parametrize("fsdp", [0, 3])
def test_devices_that_cannot_be_divided_are_refused(fsdp):
    with pytest.raises(ValueError, match=f"fsdp={fsdp} is not allowed: must divide the number of devices, 1"):
        make_mesh(fsdp)


def test_rows_that_cannot_be_shared_are_refused_with_the_next_number_that_can():
    mesh = AbstractMesh((2, 4), (DATA, FSDP), axis_types=(AxisType.Auto, AxisType.Auto))
    check_rows("config.data.batch_size", 16, mesh, 2)
    with pytest.raises(ValueError, match=r"batch_size=17 .* 8 device\(s\) times accumulation=2; use .*=32$"):
        check_rows("config.data.batch_size", 17, mesh, 2)
