"""Analyses the scores of separated held-out mixtures by gender, output level and swaps of the outputs.

    python tools/make_heldout.py --data SPEECH --output HELDOUT
    mossformer-jax separate HELDOUT/mix -o out
    python tools/explain_scores.py --mixtures HELDOUT/mixtures.csv --manifest SPEECH/manifest.csv --estimates out

Prints the mean SI-SDRi of every gender pair; the number of mixtures that improve by less than 1 dB, with the ids of
the worst; the level of each output's talker relative to the mixture; and the share of half-second segments, among those
in which both talkers are active, that match the references better with the outputs swapped.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mossformer_jax.audio import read_audio
from mossformer_jax.data.text_tables import read_csv
from mossformer_jax.scoring import pairwise_si_sdr

SEGMENT_SECONDS = 0.5
# A segment counts as a pause if the talker's power is below this level relative to the mean over the mixture.
PAUSE_DB = -20.0
FAILED_DB = 1.0
NUM_NAMED = 3


class Explained(NamedTuple):
    """The analysis of one mixture of two talkers.

    Attributes:
        si_sdri_db: SI-SDRi, mean over both talkers.
        talker_db: level of the assigned talker in each output, in dB relative to that talker in the mixture.
        segments_k2: mean SI-SDRi in dB of each half-second segment in which both talkers are active, with the outputs
            in the best order over the whole mixture, and swapped.
    """

    si_sdri_db: float
    talker_db: Float[np.ndarray, " 2"]
    segments_k2: Float[np.ndarray, "k 2"]


def explain(signals_5t: Float[np.ndarray, "5 t"], length: int, segment: int) -> Explained:
    """Analyses a mixture.

    Args:
        signals_5t: the mixture, its two sources and the two outputs, padded to a multiple of `segment`.
        length: number of valid samples.
        segment: length of a half-second segment in samples.
    """
    mixture_1t, references_ct, estimates_ct = np.split(signals_5t, (1, 3))
    whole_2 = improvements(signals_5t[None], np.array([length]))[0]
    order = [0, 1] if whole_2[0] >= whole_2[1] else [1, 0]
    given_ct = estimates_ct[order]
    products_c, energies_c = np.sum(given_ct * references_ct, axis=1), np.sum(np.square(references_ct), axis=1)
    talker_db = 20 * np.log10(np.maximum(np.abs(products_c), 1e-12) / energies_c)

    segments_k5t = np.concatenate([mixture_1t, references_ct, given_ct]).reshape(5, -1, segment).swapaxes(0, 1)
    power_kc = np.mean(np.square(segments_k5t[:, 1:3]), axis=-1)
    both_talk_k = np.all(power_kc > energies_c / length * 10 ** (PAUSE_DB / 10), axis=1)
    both_talk_k[length // segment :] = False
    segments_k2 = improvements(segments_k5t, np.full(len(segments_k5t), segment))
    return Explained(float(whole_2.max()), talker_db[order], segments_k2[both_talk_k])


def improvements(signals_b5t: Float[np.ndarray, "b 5 t"], lengths_b: Int[np.ndarray, " b"]) -> Float[np.ndarray, "b 2"]:
    """Mean SI-SDRi in dB of both outputs in the given order, and swapped."""
    mixture_b1t, references_bct, estimates_bct = np.split(signals_b5t.astype(np.float32), (1, 3), axis=1)
    before_bc = np.asarray(pairwise_si_sdr(mixture_b1t, references_bct, lengths_b))[:, 0]
    after_bij = np.asarray(pairwise_si_sdr(estimates_bct, references_bct, lengths_b))
    given_b, swapped_b = after_bij[:, [0, 1], [0, 1]].mean(axis=1), after_bij[:, [0, 1], [1, 0]].mean(axis=1)
    return np.stack([given_b, swapped_b], axis=1) - before_bc.mean(axis=1, keepdims=True)


def print_results(mixtures: Sequence[str], pairs: Sequence[str], explained: Sequence[Explained]) -> None:
    """Prints the results, given the id and the gender pair of each mixture."""
    si_sdri = np.array([one.si_sdri_db for one in explained])
    for pair in sorted(set(pairs)):
        of_pair = si_sdri[[pair == other for other in pairs]]
        print(f"{len(of_pair)} mixtures of {pair}: SI-SDRi {of_pair.mean():.2f} dB")
    failed = np.flatnonzero(si_sdri < FAILED_DB).tolist()
    print(f"{len(failed)} of {len(si_sdri)} improve by less than {FAILED_DB:.0f} dB, {np.sum(si_sdri < 0)} get worse")
    for index in sorted(failed, key=lambda index: si_sdri[index])[:NUM_NAMED]:
        print(f"  {mixtures[index]}: {si_sdri[index]:.1f} dB")
    for output, levels in enumerate(np.array([one.talker_db for one in explained]).T):
        low, median, high = np.percentile(levels, (5, 50, 95))
        print(f"output {output + 1}: talker level {median:.1f} dB (median; 5 to 95 %: {low:.1f} to {high:.1f})")
    for title, indices in ("all mixtures", list(range(len(si_sdri)))), (f"mixtures below {FAILED_DB:.0f} dB", failed):
        segments_k2 = np.concatenate([explained[index].segments_k2 for index in indices] or [np.zeros((0, 2))])
        if len(segments_k2):
            print(
                f"half-second segments of {title}: swapped outputs are better in {np.mean(segments_k2.argmax(1)):.0%} "
                f"of {len(segments_k2)}; SI-SDRi {segments_k2[:, 0].mean():.2f} dB, "
                f"with the better order of each segment {segments_k2.max(axis=1).mean():.2f} dB"
            )


def main(arguments: Sequence[str] | None = None) -> None:
    """Analyses a folder of separated mixtures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mixtures", type=Path, required=True, metavar="CSV", help="mixtures.csv of make_heldout.py")
    parser.add_argument("--manifest", type=Path, required=True, metavar="CSV", help="table with speaker and gender")
    parser.add_argument("--estimates", type=Path, required=True, metavar="FOLDER", help="with ID_s1.wav and ID_s2.wav")
    flags = parser.parse_args(arguments)
    try:
        rows = [row for _, row in read_csv(flags.mixtures, "create it with tools/make_heldout.py")[1]]
        manifest = [row for _, row in read_csv(flags.manifest, "pass the manifest of the corpus")[1]]
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    genders = {row["speaker"]: row["gender"] for row in manifest}
    files = [
        [flags.mixtures.parent / row[name] for name in ("mixture", "source_1", "source_2")]
        + [flags.estimates / f"{row['id']}_s{k}.wav" for k in (1, 2)]
        for row in rows
    ]
    if missing := [path for of_one in files for path in of_one[:3] if not path.exists()]:
        parser.error(f"{missing[0]}: no such file; recreate {flags.mixtures.parent} with tools/make_heldout.py")
    if missing := [path for of_one in files for path in of_one[3:] if not path.exists()]:
        parser.error(f"{missing[0]}: no such file; run: mossformer-jax separate {flags.mixtures.parent / 'mix'}")
    if unknown := [row[f"speaker_{s}"] for row in rows for s in (1, 2) if row[f"speaker_{s}"] not in genders]:
        parser.error(
            f"{flags.manifest}: has no speaker {unknown[0]!r}; pass the manifest of the speech in the mixtures"
        )
    read = [[read_audio(path) for path in of_one] for of_one in files]
    lengths = [of_one[0][0].shape[1] for of_one in read]
    segment = round(SEGMENT_SECONDS * read[0][0][1])
    explained = []
    for row, of_one, length in zip(rows, read, lengths, strict=True):
        if {waveform.shape for waveform, _ in of_one} != {(1, length)}:
            parser.error(f"{row['id']}: the mixture, its sources and the outputs must be mono and equally long")
        if not all(waveform.any() for waveform, _ in of_one[1:3]):
            parser.error(f"{row['id']}: one source is silent; use tools/score_single.py for single talkers")
        # Padded to one length, because JAX compiles for every length.
        signals_5t = np.zeros((5, -(-max(lengths) // segment) * segment))
        signals_5t[:, :length] = np.concatenate([waveform for waveform, _ in of_one])
        explained.append(explain(signals_5t, length, segment))
    pairs = [" and ".join(sorted(genders[row[f"speaker_{s}"]] for s in (1, 2))) for row in rows]
    print_results([row["id"] for row in rows], pairs, explained)


if __name__ == "__main__":
    main()
