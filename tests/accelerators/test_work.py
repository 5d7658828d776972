"""FLOPs and memory traffic of a program; the body of a loop counts once per iteration."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from mossformer_jax.accelerators.products import product_flops
from mossformer_jax.accelerators.programs import separation
from mossformer_jax.accelerators.traffic import bytes_moved
from mossformer_jax.model import ModelConfig

SIZE = 64


def repeated(times: int):
    """A program with `times` successive products of square matrices."""
    matrices = jax.ShapeDtypeStruct((times, SIZE, SIZE), jnp.float32)
    start = jax.ShapeDtypeStruct((SIZE, SIZE), jnp.float32)
    run = jax.jit(lambda x, matrices: lax.scan(lambda x, matrix: (x @ matrix, None), x, matrices)[0])
    return run.trace(start, matrices)


def test_the_body_of_a_loop_counts_once_per_iteration():
    assert product_flops(repeated(24).jaxpr) == 24 * 2 * SIZE**3
    few, many = (bytes_moved(repeated(times).lower().compile().as_text()) for times in (4, 24))
    # Each iteration reads two matrices and writes one, and may copy others.
    assert (many - few) / 20 >= 3 * 4 * SIZE**2
    assert many < 24 * 10 * 4 * SIZE**2


def test_bytes_agree_with_xla_without_loops():
    x = jax.ShapeDtypeStruct((SIZE, SIZE), jnp.float32)
    compiled = jax.jit(lambda x, y: jnp.tanh(x @ y) * 2.0 + x[:8].sum()).lower(x, x).compile()
    assert bytes_moved(compiled.as_text()) == pytest.approx(compiled.cost_analysis()["bytes accessed"], rel=0.25)


def test_only_the_slice_of_a_buffer_that_is_read_or_written_counts():
    text = """HloModule m

%fused (p.0: f32[24,1024], p.1: f32[1024], p.2: s32[]) -> f32[24,1024] {
  %p.0 = f32[24,1024]{1,0} parameter(0)
  %p.1 = f32[1024]{0} parameter(1)
  %p.2 = s32[] parameter(2)
  %row = f32[1,1024]{1,0} bitcast(%p.1)
  %zero = s32[] constant(0)
  ROOT %update = f32[24,1024]{1,0} dynamic-update-slice(%p.0, %row, %p.2, %zero)
}

%body (state: (s32[], f32[24,1024], f32[1024])) -> (s32[], f32[24,1024], f32[1024]) {
  %state = (s32[], f32[24,1024]{1,0}, f32[1024]{0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %all = f32[24,1024]{1,0} get-tuple-element(%state), index=1
  %one = f32[1024]{0} get-tuple-element(%state), index=2
  %new = f32[24,1024]{1,0} fusion(%all, %one, %i), kind=kLoop, calls=%fused
  ROOT %out = (s32[], f32[24,1024]{1,0}, f32[1024]{0}) tuple(%i, %new, %one)
}

%condition (state.1: (s32[], f32[24,1024], f32[1024])) -> pred[] {
  %state.1 = (s32[], f32[24,1024]{1,0}, f32[1024]{0}) parameter(0)
  %j = s32[] get-tuple-element(%state.1), index=0
  %limit = s32[]{:T(128)} constant(24)
  ROOT %below = pred[] compare(%j, %limit), direction=LT
}

ENTRY %main (start: (s32[], f32[24,1024], f32[1024])) -> (s32[], f32[24,1024], f32[1024]) {
  %start = (s32[], f32[24,1024]{1,0}, f32[1024]{0}) parameter(0)
  ROOT %loop = (s32[], f32[24,1024]{1,0}, f32[1024]{0}) while(%start), condition=%condition, body=%body
}
"""
    row, index = 4 * 1024, 4
    assert bytes_moved(text) == 24 * (2 * row + index)
    on_chip = text.replace("f32[1024]{0}", "f32[1024]{0:T(1024)S(1)}")
    assert bytes_moved(on_chip) == 24 * (row + index)


@pytest.mark.slow
def test_the_full_model_needs_80_gmac_per_second_of_audio():
    """Published counts range from 78 to 84 GMAC, because they include different operations."""
    traced = separation(ModelConfig(), jax.devices(), batch=1, num_samples=8000)
    assert product_flops(traced.jaxpr) / 2 == pytest.approx(80.5e9, rel=0.01)


@pytest.mark.medium
def test_the_separation_program_gives_one_signal_per_source(tiny_config):
    traced = separation(tiny_config, jax.devices(), batch=3, num_samples=800)
    assert traced.out_info.shape == (3, tiny_config.num_sources, 800)
