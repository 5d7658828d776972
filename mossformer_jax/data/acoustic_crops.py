"""Crops of stored mixtures with random acoustics: level drift, rooms, recorded noise, babble and codecs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mossformer_jax.data.acoustics import Babble, LevelDrift, RecordedNoise, Reverberation
from mossformer_jax.data.channels import Channel
from mossformer_jax.data.crops import CroppedMixtures
from mossformer_jax.data.mixing import PEAK
from mossformer_jax.data.random_draws import falls
from mossformer_jax.data.records import Mixture, MixtureSource
from mossformer_jax.data.scenes import draw_background, draw_scene
from mossformer_jax.data.speech import Speech


class AcousticCrops(CroppedMixtures):
    """`CroppedMixtures` with the acoustics of `DynamicMixing`, in the same order.

    Whatever a mixture has beside its sources, such as its stored noise, stays as it is. SNRs are relative to the sum of
    the (reverberant) sources. If a signal then peaks above 0.9, all are scaled down to this peak.
    """

    def __init__(
        self,
        mixtures: MixtureSource,
        speeds: Sequence[int] = (95, 100, 105),
        *,
        level_drift: LevelDrift | None = None,
        reverberation: Reverberation | None = None,
        recorded_noise: RecordedNoise | None = None,
        babble: Babble | None = None,
        voices: Speech | None = None,
        channel: Channel | None = None,
    ):
        """Stores the options; nothing is read yet.

        Args:
            mixtures: the data set.
            speeds: see `CroppedMixtures`.
            level_drift: makes the levels of the sources drift.
            reverberation: makes the sources reverberant; the sources are then the targets it defines.
            recorded_noise: adds recorded noise at a random SNR.
            babble: adds voices at a random SNR.
            voices: the speech that babble is made of; needed with `babble`.
            channel: passes the mixture through a telephone channel or a codec.

        Raises:
            ValueError: a speed is not positive.
        """
        super().__init__(mixtures, speeds)
        self.level_drift, self.reverberation, self.channel = level_drift, reverberation, channel
        self.recorded_noise, self.babble, self.voices = recorded_noise, babble, voices

    @property
    def remixes(self) -> bool:
        """Whether the mixtures are made again from their parts, which must then add up to them."""
        return set(self.speeds) != {100} or self.level_drift is not None or self.reverberation is not None

    def draw(self, index: int, num_samples: int, rng: np.random.Generator) -> Mixture:
        """Draws a crop of mixture `index`, and its acoustics."""
        drawn = super().draw(index, num_samples, rng)
        heard_ct, targets_ct = draw_scene(drawn.sources, self.level_drift, self.reverberation, self.sample_rate, rng)
        clean = heard_ct.sum(axis=0)
        added = draw_background(clean, self.recorded_noise, self.babble, self.voices, (), rng)
        coded = self.channel is not None and falls(self.channel.share, rng)
        if heard_ct is drawn.sources and not added and not coded:
            return drawn

        noise = sum(added, start=np.zeros_like(clean) if drawn.noise is None else drawn.noise)
        mixed = drawn.mixed() + (clean - drawn.sources.sum(axis=0)) + sum(added, start=np.zeros_like(clean))
        peak = max(float(np.abs(mixed).max()), float(np.abs(targets_ct).max()))
        scale = np.float32(min(PEAK / peak, 1.0) if peak > 0 else 1.0)
        targets_ct, noise, mixed = targets_ct * scale, noise * scale, mixed * scale
        if coded and self.channel is not None:
            mixed = self.channel(mixed, self.sample_rate, rng)
        return replace(drawn, sources=targets_ct, noise=noise, mixture=mixed.astype(np.float32))
