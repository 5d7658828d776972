"""`mossformer-jax score`: SI-SDR of separated sources, where the truth is known."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mossformer_jax.cli.devices import add_device_options, prepare_jax
from mossformer_jax.cli.terminal import print_table


def add_parser(commands: Any) -> None:
    """Adds the subcommand to the command's parser."""
    parser = commands.add_parser("score", help="SI-SDR and its improvement over the mixture, in dB")
    parser.add_argument("--mixture", required=True, metavar="M.wav")
    parser.add_argument("--reference", required=True, nargs="+", metavar="R.wav", help="one true source a file")
    parser.add_argument("--estimate", required=True, nargs="+", metavar="E.wav", help="as many, in any order")
    add_device_options(parser)
    parser.set_defaults(run=_score)


def _score(options: argparse.Namespace) -> int:
    prepare_jax(options)
    import jax.numpy as jnp
    import numpy as np

    from mossformer_jax.data import read_audio, to_mono
    from mossformer_jax.scoring import pairwise_si_sdr, pit_si_sdr

    if len(options.reference) != len(options.estimate):
        raise ValueError(
            f"--reference names {len(options.reference)} files, --estimate {len(options.estimate)}: give equally many"
        )
    paths = [options.mixture, *options.reference, *options.estimate]
    audio = [read_audio(path) for path in paths]
    formats = [(waveform.shape[1], sample_rate) for waveform, sample_rate in audio]
    for path, (length, sample_rate) in zip(paths, formats, strict=True):
        if (length, sample_rate) != formats[0]:
            raise ValueError(
                f"{path}: has {length} samples at {sample_rate} Hz, but {paths[0]} has {formats[0][0]} at "
                f"{formats[0][1]} Hz; cut and resample them alike"
            )
    mixture, *others = (to_mono(waveform) for waveform, _ in audio)
    for path, signal in zip(options.reference, others, strict=False):
        if np.ptp(signal) == 0.0:
            raise ValueError(f"{path}: is silent, and SI-SDR is not defined for silence; leave this mixture out")
    signals_ct = jnp.stack(others)
    count = len(options.reference)
    references, estimates = signals_ct[None, :count], signals_ct[None, count:]
    chosen = pit_si_sdr(estimates, references)[1][0]
    scores = np.asarray(pairwise_si_sdr(estimates, references))[0, chosen, range(count)]
    baselines = np.asarray(pairwise_si_sdr(jnp.asarray(mixture)[None, None], references))[0, 0]

    rows = [("reference", "estimate", "SI-SDR (dB)", "SI-SDRi (dB)")]
    for reference, estimate, score, baseline in zip(options.reference, chosen, scores, baselines, strict=True):
        row = Path(reference).name, Path(options.estimate[estimate]).name, f"{score:.2f}", f"{score - baseline:.2f}"
        rows.append(row)
    rows.append(("mean", "", f"{scores.mean():.2f}", f"{(scores - baselines).mean():.2f}"))
    print_table(rows, left=2)
    return 0
