"""Example utterances of an evaluation, as spectrograms and audio files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Float

from mossformer_jax.audio.files import write_audio
from mossformer_jax.data.records import Mixture
from mossformer_jax.evaluation.page import REPORT_FILE, typical, write_report
from mossformer_jax.evaluation.run import Evaluation, TestSet, batches_of
from mossformer_jax.evaluation.scorer import Scorer, fetch

AUDIO_FOLDER = "audio"


def write_examples(
    scorer: Scorer,
    test_set: TestSet,
    evaluation: Evaluation | None,
    folder: Path,
    title: str | None,
    num_audio: int = 0,
) -> None:
    """Writes `report.html` with the best, median and worst utterance, and audio files of the first utterances.

    Args:
        scorer: the model.
        test_set: the evaluated data set.
        evaluation: the result of `evaluate_model` in this process. All processes must call this function.
        folder: output folder.
        title: title of the report; None writes no report.
        num_audio: number of utterances to write to `folder/audio`.

    Raises:
        ModuleNotFoundError: matplotlib is not installed and a report was requested.
    """
    # Rows and mixtures are in the same order. The array has a fixed length so that it can be broadcast.
    shown = typical(evaluation.rows) if evaluation and title is not None else {}
    num_audio = min(num_audio, len(test_set.mixtures))
    wanted = np.full(num_audio + 3, -1)
    wanted[:num_audio] = np.arange(num_audio)
    wanted[num_audio : num_audio + len(shown)] = list(shown.values())
    if jax.process_count() > 1:
        wanted = multihost_utils.broadcast_one_to_all(wanted)
    kept = {}
    for index, separated in separate_some(scorer, test_set, np.unique(wanted[wanted >= 0]).tolist()):
        if evaluation is not None and index < num_audio:
            save_audio(folder / AUDIO_FOLDER, *separated)
        if index in shown.values():
            kept[index] = separated
    if evaluation is not None and title is not None:
        examples = {name: kept[index] for name, index in shown.items()}
        write_report(folder / REPORT_FILE, title, evaluation.rows, evaluation.summary, examples)


def separate_some(
    scorer: Scorer, test_set: TestSet, indices: Sequence[int]
) -> Iterator[tuple[int, tuple[Mixture, Float[np.ndarray, "c t"]]]]:
    """Separates some utterances again. Every process must pass the same indices and consume all results.

    Yields:
        The index of the utterance, its mixture, and the estimates in the order of its sources, each at the level of its
        source.
    """
    for batch in batches_of(test_set, indices):
        scored = scorer(batch)
        for row, position in enumerate(np.asarray(scored.index_b)):
            if position >= 0:
                mixture = test_set.mixtures.read(indices[position])
                estimates_ct = fetch(scored, row, mixture.sources.shape[1])
                # The level of the network's output is arbitrary, because it was trained with scale-invariant SI-SDR.
                powers_c, wanted_c = (np.square(signals).mean(axis=1) for signals in (estimates_ct, mixture.sources))
                gains_c = np.sqrt(wanted_c / np.where(powers_c > 0, powers_c, 1.0))
                yield indices[position], (mixture, (estimates_ct * gains_c[:, None]).astype(np.float32))


def save_audio(folder: Path, mixture: Mixture, estimates_ct: Float[np.ndarray, "c t"]) -> None:
    """Writes ID_mixture.wav and, for every source k, ID_reference{k}.wav and ID_estimate{k}.wav, as 32-bit floats."""
    folder.mkdir(parents=True, exist_ok=True)
    signals = {"mixture": mixture.mixed()}
    for number, (reference, estimate) in enumerate(zip(mixture.sources, estimates_ct, strict=True), 1):
        signals |= {f"reference{number}": reference, f"estimate{number}": estimate}
    for name, signal in signals.items():
        path = folder / f"{mixture.id.replace('/', '_')}_{name}.wav"
        write_audio(path, signal, mixture.sample_rate, "FLOAT")
