"""Metrics of separation quality. SI-SDR is also the basis of the training loss."""

from mossformer_jax.scoring.bss_eval import sdr
from mossformer_jax.scoring.metrics import COLUMNS, METRICS, host_figures, parse_metrics
from mossformer_jax.scoring.perceptual import pesq, stoi
from mossformer_jax.scoring.si_sdr import (
    MAX_DB,
    MIN_DB,
    pairwise_si_sdr,
    pit_si_sdr,
    pit_si_sdr_loss,
    pit_training_score,
    si_sdr,
)

__all__ = [
    "COLUMNS",
    "MAX_DB",
    "METRICS",
    "MIN_DB",
    "host_figures",
    "pairwise_si_sdr",
    "parse_metrics",
    "pesq",
    "pit_si_sdr",
    "pit_si_sdr_loss",
    "pit_training_score",
    "sdr",
    "si_sdr",
    "stoi",
]
