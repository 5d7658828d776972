"""Scores separated recordings of one talker or of silence, which `mossformer-jax score` cannot score.

    python tools/make_heldout.py --data SPEECH --output SINGLE --condition single --count 50
    mossformer-jax separate SINGLE/mix -o out
    python tools/score_single.py --mixtures SINGLE/mix --estimates out

For every recording, computes the SI-SDR in dB of its louder output, with the recording as the reference, and the level
difference of the outputs in dB. Prints the mean and the 10th percentile of both and, for silent recordings, how many
have silent outputs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mossformer_jax.audio import read_audio
from mossformer_jax.scoring import si_sdr


def score(mixture: Path, estimates: Sequence[Path]) -> tuple[float, float] | bool:
    """SI-SDR of the louder output and level difference in dB; for a silent recording, whether both outputs are."""
    recording_t = read_audio(mixture)[0][0]
    outputs = sorted((read_audio(path)[0][0] for path in estimates), key=lambda output: -np.mean(np.square(output)))
    if not recording_t.any():
        return not any(output.any() for output in outputs)
    powers = [max(float(np.mean(np.square(output, dtype=np.float64))), 1e-12) for output in outputs]
    return float(si_sdr(outputs[0], recording_t)), 10 * float(np.log10(powers[0] / powers[1]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the scores of a folder of recordings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mixtures", type=Path, required=True, metavar="FOLDER", help="recordings, *.wav")
    parser.add_argument("--estimates", type=Path, required=True, metavar="FOLDER", help="with NAME_s1.wav, NAME_s2.wav")
    flags = parser.parse_args(arguments)
    files = sorted(flags.mixtures.glob("*.wav"))
    if not files:
        parser.error(f"{flags.mixtures}: contains no .wav files")
    outputs = [[flags.estimates / f"{file.stem}_s{k}.wav" for k in (1, 2)] for file in files]
    missing = [path for pair in outputs for path in pair if not path.exists()]
    if missing:
        parser.error(f"{missing[0]}: no such file; run: mossformer-jax separate {flags.mixtures}")
    results = [score(file, pair) for file, pair in zip(files, outputs, strict=True)]
    silent = [result for result in results if isinstance(result, bool)]
    heard = np.array([result for result in results if not isinstance(result, bool)])
    if silent:
        print(f"{len(silent)} silent recordings, {sum(silent)} of them with silent outputs")
    if len(heard):
        names = "SI-SDR of the louder output", "level difference of the outputs"
        for name, values in zip(names, heard.T, strict=True):
            print(f"{name}: mean {values.mean():.1f} dB, 10th percentile {np.percentile(values, 10):.1f} dB")


if __name__ == "__main__":
    main()
