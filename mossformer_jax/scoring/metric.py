"""The record of a metric: its name, how it is printed and how the host computes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

HostFunction = Callable[[np.ndarray, np.ndarray, int], Sequence[float] | np.ndarray]
"""Scores estimates (k, t) of one reference (t,) at a sample rate in Hz; one value per estimate."""


@dataclass(frozen=True)
class Metric:
    """A metric of one estimate against one reference.

    Attributes:
        name: in options, and as a column.
        title: in tables and on axes.
        unit: "dB", or empty.
        decimals: number of decimals that are printed.
        improves: whether the improvement over the mixture is reported, too.
        on_host: computes it on the host; None for SI-SDR, which the device computes for whole batches.
        package: the package that it needs, if any.
        installation: the command that installs the package.
        sample_rates: the sample rates in Hz at which it is defined; empty for any rate.
    """

    name: str
    title: str
    unit: str = ""
    decimals: int = 2
    improves: bool = False
    on_host: HostFunction | None = None
    package: str | None = None
    installation: str = "pip install 'mossformer-jax[eval]'"
    sample_rates: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        """The title with the unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def columns(self) -> tuple[Metric, ...]:
        """The metric and, if it is reported, its improvement over the mixture."""
        improvement = replace(self, name=f"{self.name}i", title=f"{self.title}i", improves=False)
        return (self, improvement) if self.improves else (self,)
