"""Figures of separation quality, one of which is also the training loss."""

from mossformer_jax.scoring.si_sdr import pairwise_si_sdr, pit_si_sdr, pit_si_sdr_loss, si_sdr

__all__ = ["pairwise_si_sdr", "pit_si_sdr", "pit_si_sdr_loss", "si_sdr"]
