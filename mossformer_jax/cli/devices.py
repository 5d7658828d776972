"""The device that JAX runs on."""

from __future__ import annotations

import logging
import os


def prepare_jax() -> None:
    """Wakes JAX up.

    Raises:
        ValueError: there is no device of the kind that the environment asks for.
    """
    import jax

    # JAX would remark on every accelerator that it does not find.
    logging.getLogger("jax._src.xla_bridge").setLevel(logging.ERROR)
    try:
        jax.devices()
    # AssertionError: JAX's answer to JAX_PLATFORMS=cuda where its CUDA plugin is not installed.
    except (RuntimeError, AssertionError) as error:
        wanted = os.environ.get("JAX_PLATFORMS", "")
        raise ValueError(
            f"JAX finds no device for JAX_PLATFORMS={wanted!r}; unset it, or install mossformer-jax[cuda12] or [tpu]"
        ) from error
