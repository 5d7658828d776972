"""Memory and time estimates of programs on accelerators, compiled without the hardware."""

from mossformer_jax.accelerators.commands import report_separation, report_training

__all__ = ["report_separation", "report_training"]
