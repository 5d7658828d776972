"""Makes examples/synthetic/: two mixtures of two synthetic speakers at 8 kHz, one of a woman and a man, one of two men.

    python tools/make_examples.py [FOLDER]

Needs the speech synthesiser espeak-ng on the PATH.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from mossformer_jax.audio import read_audio, resample, to_mono, write_audio
from mossformer_jax.audio.files import fit_length

SAMPLE_RATE = 8000
NUM_SAMPLES = 4 * SAMPLE_RATE
# By folder: voice, words per minute, sentence, level in dB RMS, start in seconds.
EXAMPLES = {
    ".": [
        ("en-gb", 175, "The old ferry leaves the harbour at seven, and nobody waits for the mail.", -24.0, 0.0),
        ("en-us+f3", 190, "My sister painted every window green, because the garden was so grey.", -26.5, 0.25),
    ],
    "two_men": [
        ("en-gb", 170, "We walked along the river until the lamps were lit on the other side.", -25.0, 0.0),
        ("en-us+m3", 180, "Put the heavy boxes near the door, and keep the glasses on the table.", -25.0, 0.2),
    ],
}


def speak(voice: str, words_per_minute: int, sentence: str) -> np.ndarray:
    """Synthesises a sentence at SAMPLE_RATE, without silence at its ends."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "speech.wav")
        subprocess.run(["espeak-ng", "-v", voice, "-s", str(words_per_minute), "-w", path, sentence], check=True)
        waveform, rate = read_audio(path)
    speech = resample(to_mono(waveform), rate, SAMPLE_RATE)
    audible = np.flatnonzero(np.abs(speech) > 1e-3)
    return speech[audible[0] : audible[-1] + 1]


def main() -> None:
    """Writes source1.wav, source2.wav and mixture.wav of each example."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "examples" / "synthetic"
    if shutil.which("espeak-ng") is None:
        sys.exit("espeak-ng is not on the PATH; install it (on Debian: apt-get install espeak-ng) and try again")
    for name, speakers in EXAMPLES.items():
        make_example(folder / name, speakers)


def make_example(folder: Path, speakers: list[tuple[str, int, str, float, float]]) -> None:
    """Writes one example; `speakers` as in `EXAMPLES`."""
    folder.mkdir(parents=True, exist_ok=True)
    mixture = np.zeros(NUM_SAMPLES)
    for number, (voice, words_per_minute, sentence, level_db, start) in enumerate(speakers, 1):
        speech = speak(voice, words_per_minute, sentence)
        speech *= 10 ** (level_db / 20) / np.sqrt(np.mean(speech**2))
        source = fit_length(np.concatenate([np.zeros(int(start * SAMPLE_RATE)), speech]), NUM_SAMPLES)
        seconds = len(speech) / SAMPLE_RATE + start
        print(f"{folder}/source{number}.wav: {seconds:.2f} s of {NUM_SAMPLES / SAMPLE_RATE:.0f} s")
        write_audio(folder / f"source{number}.wav", source, SAMPLE_RATE)
        # The mixture is the exact sum of the files as they were written.
        mixture += read_audio(folder / f"source{number}.wav")[0][0]
    write_audio(folder / "mixture.wav", mixture, SAMPLE_RATE)


if __name__ == "__main__":
    main()
