"""A few utterances of an evaluation to look at and to listen to."""

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
    """Writes `report.html` with the best, the median and the worst utterance, and the sources of the first ones.

    Args:
        scorer: the model.
        test_set: what was evaluated.
        evaluation: what `evaluate_model` gave in this process; all processes must come here.
        folder: where to write.
        title: of the report; without one there is none.
        num_audio: how many utterances to write to `folder/audio`.

    Raises:
        ModuleNotFoundError: matplotlib is not installed, and the report has a title.
    """
    # Rows and mixtures are in one order. As a list of fixed length, other processes can be told.
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
    """Separates a few utterances again, to look at or to listen to; every process must ask for the same, and for all.

    Yields:
        The index, and with it the mixture and the estimates in the order of its sources, each at the level of its
        source.
    """
    for batch in batches_of(test_set, indices):
        scored = scorer(batch)
        for row, position in enumerate(np.asarray(scored.index_b)):
            if position >= 0:
                mixture = test_set.mixtures.read(indices[position])
                estimates_ct = fetch(scored, row, mixture.sources.shape[1])
                # The network's own level says nothing: SI-SDR, by which it was trained, does not look at it.
                powers_c, wanted_c = (np.square(signals).mean(axis=1) for signals in (estimates_ct, mixture.sources))
                gains_c = np.sqrt(wanted_c / np.where(powers_c > 0, powers_c, 1.0))
                yield indices[position], (mixture, (estimates_ct * gains_c[:, None]).astype(np.float32))


def save_audio(folder: Path, mixture: Mixture, estimates_ct: Float[np.ndarray, "c t"]) -> None:
    """Writes ID_mixture.wav, and ID_reference1.wav and ID_estimate1.wav of every source, in 32-bit floats."""
    folder.mkdir(parents=True, exist_ok=True)
    signals = {"mixture": mixture.mixed()}
    for number, (reference, estimate) in enumerate(zip(mixture.sources, estimates_ct, strict=True), 1):
        signals |= {f"reference{number}": reference, f"estimate{number}": estimate}
    for name, signal in signals.items():
        path = folder / f"{mixture.id.replace('/', '_')}_{name}.wav"
        write_audio(path, signal, mixture.sample_rate, "FLOAT")
