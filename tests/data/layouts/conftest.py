"""Small data sets of noise with the folder structure of the real ones."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile


@pytest.fixture
def write_audio_files(rng):
    """Writes one file of noise per signal and name; returns the samples by (signal, name)."""

    def write(folder, signals, names, *, num_samples=300, sample_rate=8000, suffix=".wav"):
        written = {}
        for signal in signals:
            (folder / signal).mkdir(parents=True, exist_ok=True)
            for name in names:
                # 16-bit values, which WAV and FLAC return exactly.
                waveform = (rng.integers(-30_000, 30_000, num_samples) / 2**15).astype(np.float32)
                soundfile.write(folder / signal / f"{name}{suffix}", waveform, sample_rate)
                written[signal, name] = waveform
        return written

    return write
