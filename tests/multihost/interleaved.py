"""One of two processes whose devices alternate in the mesh, as on a TPU pod. Usage: interleaved.py ADDRESS INDEX."""

from __future__ import annotations

import sys

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from mossformer_jax.sharding import DATA, FSDP, by_rows, connect, local_rows, place_rows, replicated


def main(address: str, index: str) -> None:
    connect(address, 2, int(index))
    first, second = ([d for d in jax.devices() if d.process_index == process] for process in (0, 1))
    order = [device for pair in zip(first, second, strict=True) for device in pair]
    mesh = Mesh(np.array(order).reshape(4, 1), (DATA, FSDP), axis_types=(AxisType.Auto, AxisType.Auto))
    rows = np.arange(12.0).reshape(4, 3) + 100 * int(index)
    placed = place_rows({"rows": rows}, mesh)["rows"]
    doubled = jax.jit(lambda rows: 2 * rows, out_shardings=by_rows(mesh))(placed)
    np.testing.assert_array_equal(local_rows(doubled), 2 * rows)
    everywhere = jax.jit(lambda rows: rows, out_shardings=replicated(mesh))(placed)
    assert sorted(np.asarray(everywhere)[:, 0]) == [0, 3, 6, 9, 100, 103, 106, 109]


if __name__ == "__main__":
    main(*sys.argv[1:])
