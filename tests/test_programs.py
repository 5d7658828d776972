"""Jitted functions that are shared within a process."""

from __future__ import annotations

import jax
import pytest

from mossformer_jax.programs import shared_program


def test_equal_arguments_share_one_function_and_others_do_not():
    shared = shared_program(lambda factor: jax.jit(lambda x: factor * x))
    assert shared(2) is shared(2)
    assert shared(2) is not shared(3)
    assert shared(3)(2.0) == 6.0


def test_a_function_that_has_run_is_still_checked_for_nan():
    logarithm = shared_program(lambda: jax.jit(jax.numpy.log))
    assert jax.numpy.isnan(logarithm()(-1.0))
    with jax.debug_nans(True), pytest.raises(FloatingPointError, match="nan"):
        logarithm()(-1.0)
    assert jax.numpy.isnan(logarithm()(-1.0))
