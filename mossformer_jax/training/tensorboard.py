"""TensorBoard event files of a run: scalars, audio and spectrograms."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mossformer_jax.figures.spectrograms import signal_spectrogram, spectrogram_figure


@contextmanager
def _without_torch() -> Iterator[None]:
    """Lets imports inside fail to find PyTorch, if it has not been imported before."""
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hidden:
            del sys.modules["torch"]


# tensorboardX imports PyTorch where it is installed, only to accept its tensors. That takes three seconds.
with _without_torch():
    from tensorboardX import summary
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.proto.summary_pb2 import Summary

# Level of the loudest sample of an example, where full scale is 1.
PEAK = 0.9
DPI = 60


@dataclass(frozen=True)
class Example:
    """A validation mixture with its separation, shown and played in TensorBoard.

    Attributes:
        name: unique name of the mixture.
        sample_rate: in Hz.
        mixture_t: the mixture.
        estimates_ct: the separated sources, in the order of the references.
        references_ct: the true sources.
    """

    name: str
    sample_rate: int
    mixture_t: Float[np.ndarray, " t"]
    estimates_ct: Float[np.ndarray, "c t"]
    references_ct: Float[np.ndarray, "c t"]

    def signals(self) -> dict[str, Float[np.ndarray, " t"]]:
        """The mixture, the estimates and the references by name, scaled by one factor to a peak of `PEAK`."""
        signals_ct = np.concatenate([self.mixture_t[None], self.estimates_ct, self.references_ct])
        # A diverged network must not stop the run here.
        signals_ct = np.nan_to_num(signals_ct, posinf=0.0, neginf=0.0)
        signals_ct = signals_ct * (PEAK / (np.abs(signals_ct).max() or 1.0))
        names = ["mixture"]
        names += [f"estimate {number}" for number in range(1, len(self.estimates_ct) + 1)]
        names += [f"reference {number}" for number in range(1, len(self.references_ct) + 1)]
        return dict(zip(names, signals_ct, strict=True))


class TensorBoard:
    """An event file of scalars, audio and images, on disk when a call returns.

    tensorboardX's own `SummaryWriter` writes from a thread. If the thread fails on a full disk, its queue fills up
    and the training hangs.

    Args:
        folder: for the event files; every start of the training adds one.
        step: the step from which the run resumes; TensorBoard discards later steps of older event files.
    """

    def __init__(self, folder: Path, step: int = 0):
        folder.mkdir(parents=True, exist_ok=True)
        # File names have a resolution of one second; without a suffix, a quick restart would overwrite a file.
        self._events = EventsWriter(str(folder / "events"), f".{time.time_ns()}")
        restart = SessionLog(status=SessionLog.START)
        self._events.write_event(Event(step=step + 1, wall_time=time.time(), session_log=restart))
        self._references_written = False

    def scalars(self, step: int, values: Mapping[str, float | np.number]) -> None:
        """Adds one point to each named curve."""
        points = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write(step, [Summary(value=points)])

    def examples(self, step: int, examples: Sequence[Example]) -> None:
        """Adds audio and spectrograms of each example; the references' audio is written only the first time."""
        for example in examples:
            signals = example.signals()
            sounds = [
                summary.audio(f"{example.name}/{name}", signal_t, example.sample_rate)
                for name, signal_t in signals.items()
                if not (self._references_written and name.startswith("reference"))
            ]
            panels = [signal_spectrogram(signal_t, example.sample_rate) for signal_t in signals.values()]
            picture = _pixels(spectrogram_figure([name.capitalize() for name in signals], panels, DPI))
            self._write(step, [*sounds, summary.image(f"{example.name}/spectrograms", picture, dataformats="HWC")])
        self._references_written |= bool(examples)

    def close(self) -> None:
        """Closes the event file."""
        self._events.close()

    def _write(self, step: int, summaries: Sequence[Summary]) -> None:
        for content in summaries:
            self._events.write_event(Event(step=step, wall_time=time.time(), summary=content))
        self._events.flush()


def _pixels(figure) -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]
