"""Small data sets of noise, in the shapes of the real ones."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile


@pytest.fixture
def write_audio_files(rng):
    """Writes a file of noise a signal and name, and gives what is in each, by (signal, name)."""

    def write(folder, signals, names, *, num_samples=300, sample_rate=8000, suffix=".wav"):
        written = {}
        for signal in signals:
            (folder / signal).mkdir(parents=True, exist_ok=True)
            for name in names:
                # 16-bit steps, so that WAV and FLAC give back exactly this.
                waveform = (rng.integers(-30_000, 30_000, num_samples) / 2**15).astype(np.float32)
                soundfile.write(folder / signal / f"{name}{suffix}", waveform, sample_rate)
                written[signal, name] = waveform
        return written

    return write
