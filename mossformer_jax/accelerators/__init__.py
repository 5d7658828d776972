"""Accelerators without the hardware: programs compiled for chips that are not there, and what they take."""

from mossformer_jax.accelerators.commands import report_separation, report_training

__all__ = ["report_separation", "report_training"]
