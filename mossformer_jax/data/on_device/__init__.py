"""Dynamic mixing on the accelerator: all recordings are in its memory, and a compiled program draws the batches.

The mixtures have the distribution of `mossformer_jax.data.mixing.DynamicMixing`, whose options apply unchanged.
"""

from mossformer_jax.data.on_device.batches import DeviceBatches

__all__ = ["DeviceBatches"]
