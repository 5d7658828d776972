"""The training loop: trains the model of a config in a run folder, and resumes after an interruption."""

from __future__ import annotations

import math
import time
from collections import deque
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import Array

from mossformer_jax.data.batch import Batch
from mossformer_jax.data.on_device import DeviceBatches
from mossformer_jax.sharding import any_process, check_rows, make_mesh, place, place_rows, replicated
from mossformer_jax.training import state as states
from mossformer_jax.training.checkpoints import Checkpoints
from mossformer_jax.training.configuration import resolve
from mossformer_jax.training.data import empty_batch, open_batches, open_training_data, open_validation_data
from mossformer_jax.training.journal import Journal
from mossformer_jax.training.log import collected_records
from mossformer_jax.training.loggers import check_installed, open_logger
from mossformer_jax.training.meter import Meter, SilentJournal
from mossformer_jax.training.output import write_weights
from mossformer_jax.training.profiler import Profiler
from mossformer_jax.training.provenance import record_start
from mossformer_jax.training.results import Outcome
from mossformer_jax.training.resume import begin_or_resume, checkpoint_notes
from mossformer_jax.training.signals import StopRequest
from mossformer_jax.training.step import Metrics, make_train_step
from mossformer_jax.training.validation import Validation
from mossformer_jax.training.workdir import changes_since_start, lock, write_config
from mossformer_jax.weights.folders import BEST
from mossformer_jax.weights.parameters import count_parameters

if TYPE_CHECKING:
    from ml_collections import ConfigDict

# Steps that the host may run ahead of the devices: enough to hide its work, few enough to notice failures soon.
STEPS_AHEAD = 2
# Interval in steps at which several processes agree on whether to stop; each agreement is a synchronisation.
STEPS_BETWEEN_AGREEMENTS = 10


class Training:
    """A training run: opened or resumed on construction, then carried out by `run`.

    Args:
        config: the model, the data and the training options.
        workdir: the run's folder, visible to all processes; created if missing.
        profile_steps: first and last step to profile, counted from 1 in this process.

    Raises:
        FileNotFoundError, OSError, ValueError: the config, the data, the initial weights or the contents of the
            folder are invalid; the message names the problem and the fix.
    """

    def __init__(self, config: ConfigDict, workdir: str | Path, profile_steps: tuple[int, int] | None = None):
        self.model, self.recipe, self.data = resolve(config)
        self.config, self.workdir = config, Path(workdir)
        self._profiler = Profiler(self.workdir / "profile", profile_steps)
        check_installed(self.recipe.loggers)
        self._first_process = jax.process_index() == 0

        # ------------------------------------------------------------------ data
        self.mesh = make_mesh(self.recipe.fsdp)
        check_rows("config.data.batch_size", self.data.batch_size, self.mesh, self.recipe.accumulation)
        if self.recipe.validation_batch_size:
            check_rows("config.train.validation_batch_size", self.recipe.validation_batch_size, self.mesh)
        mixtures = open_training_data(self.model, self.data)
        self._batches = open_batches(self.model, self.data, mixtures, self.mesh)
        heldout = open_validation_data(self.model, self.data)
        self._validation = Validation(self.model, self.recipe, heldout, self.data.num_workers, self.mesh)
        self.steps_per_epoch = math.ceil(len(mixtures) / self.data.batch_size)
        self.total_steps = self.recipe.steps or self.recipe.epochs * self.steps_per_epoch

        # ------------------------------------------------------------------ state, new or from the newest checkpoint
        self._lock = lock(self.workdir) if self._first_process else None
        try:
            with collected_records() as self._earlier_records:
                self._begin_or_resume()
        except BaseException:
            self._unlock()
            raise

    def run(self) -> Outcome:
        """Trains until all steps are done or a signal requests a stop. In both cases everything is saved.

        Raises:
            FloatingPointError: too many steps in a row were skipped.
            OSError: something could not be written.
            ValueError: too much of the data could not be read.
        """
        try:
            with self._open_journal() as journal, StopRequest() as request:
                self._introduce(journal)
                if self._catch_up(journal, request) and self.step < self.total_steps:
                    self._train(journal, request)
                self.checkpoints.wait()
                finished = self.step >= self.total_steps and not self._validation_is_due()
                stopped_by = "" if finished else request.received or "a signal to another process"
                outcome = Outcome.of(self.results, self.step, self.total_steps, stopped_by)
                journal.note(outcome.summary(self.workdir))
            self.checkpoints.close()
        except BaseException:
            # All processes complete a save together: if another one has died, closing would wait forever.
            if jax.process_count() == 1:
                self.checkpoints.close()
            raise
        finally:
            self._batches.close()
            self._unlock()
        return outcome

    def _begin_or_resume(self) -> None:
        self.changes = changes_since_start(self.workdir, self.config)
        self.checkpoints = Checkpoints(
            self.workdir / "checkpoints", keep_last=self.recipe.keep_last, keep_best=self.recipe.keep_best
        )
        begun = begin_or_resume(self.workdir, self.checkpoints, self.model, self.recipe, self.mesh)
        self.step, self.state, self.results = begun.step, begun.state, begun.results
        if begun.batches is not None:
            self._batches.set_state(begun.batches)
        self._meter = Meter(self.data.batch_size, self.steps_per_epoch, self.recipe.log_every, begun.unrecorded)

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()

    def _open_journal(self) -> Journal | SilentJournal:
        if not self._first_process:
            return SilentJournal()
        return Journal(
            self.workdir,
            total_steps=self.total_steps,
            step=self.step,
            validated_step=self.results.validated_step,
            si_sdri_db=self.results.last_si_sdri_db,
            earlier=self._earlier_records,
            loggers={
                name: partial(open_logger, name, self.workdir, self.config.to_dict()) for name in self.recipe.loggers
            },
        )

    def _catch_up(self, journal: Journal | SilentJournal, request: StopRequest) -> bool:
        """Repeats a validation that a signal or an error interrupted; False if a signal interrupts it again."""
        if not self.step or not self._validation_is_due():
            return True
        score = self._validate(journal, request)
        if score is None:
            return False
        self._write_weights("last", score)  # the validation has measured their output gains
        return True

    def _train(self, journal: Journal | SilentJournal, request: StopRequest) -> None:
        for name, (before, after) in self.changes.items():
            journal.note(f"config.{name} changed from {before} to {after}")
        if self._first_process:
            write_config(self.workdir, self.config, self.step)
            record_start(self.workdir, self.step)
        program = self._compile(journal)
        in_flight: deque[tuple[int, Array]] = deque()
        stopped, first = False, self.step
        self._meter.restart()
        while self.step < self.total_steps and not stopped:
            self._profiler.before_step(self.step - first + 1, self.state)
            with self._meter.waiting():
                batch = self._next_batch(request)
            if batch is None:
                self._drain(in_flight, journal)
                self._save(None)
                break
            placed = batch if self.data.on_device else place_rows(batch._replace(index=None), self.mesh)
            with jax.transfer_guard("disallow"):
                self.state, metrics = program(self.state, placed)
            self.step += 1
            in_flight.append((self.step, metrics))
            if len(in_flight) > STEPS_AHEAD:
                self._collect(*in_flight.popleft(), journal)

            stopped = self.step < self.total_steps and self._is_asked_to_stop(request)
            due = self._validation_is_due()
            if due or stopped or self.step % self._checkpoint_every == 0:
                self._drain(in_flight, journal)
                # A scheduler may kill the process within seconds of the signal, so the resumed run validates.
                self._save(self._validate(journal, request) if due and not stopped else None)
                stopped = stopped or self._validation_is_due()
                self._meter.restart()
        self._profiler.stop(self.state)

    def _compile(self, journal: Journal | SilentJournal) -> Any:
        """Compiles the training step ahead of the first step, so that no step's time includes compilation."""
        jitted = make_train_step(self.model, self.recipe, self.total_steps, self.mesh)
        if jax.config.jax_debug_nans:  # type: ignore[attr-defined]
            return jitted  # NaN debugging works in jitted functions, not in compiled programs
        began = time.perf_counter()
        placed = place_rows(empty_batch(self.model, self.data), self.mesh)
        program = jitted.lower(self.state, placed).compile()
        journal.note(f"compiled in {time.perf_counter() - began:.1f} s")
        return program

    def _next_batch(self, request: StopRequest) -> Batch | None:
        """The next batch; None if a stop signal has also ended the worker processes that load the data."""
        try:
            return next(self._batches)
        except Exception:
            if request.received and jax.process_count() == 1:
                return None
            raise

    def _drain(self, in_flight: deque[tuple[int, Array]], journal: Journal | SilentJournal) -> None:
        while in_flight:
            self._collect(*in_flight.popleft(), journal)

    def _collect(self, step: int, metrics: Array, journal: Journal | SilentJournal) -> None:
        """Fetches and records the metrics of a finished step."""
        figures = Metrics(*np.asarray(jax.device_get(metrics)).tolist())
        record = self._meter.add(step, figures)
        if record is not None:
            journal.progress(record)
        if figures.skipped_in_a_row >= self.recipe.max_skipped:
            self.checkpoints.wait()
            steps = self.checkpoints.steps()
            saved = f"the newest checkpoint is of step {steps[-1]}" if steps else "there is no checkpoint yet"
            raise FloatingPointError(
                f"{int(figures.skipped_in_a_row)} steps in a row were skipped, up to step {step}: their loss or "
                f"gradient was not finite, or the loss was above config.train.max_loss={self.recipe.max_loss} dB (last "
                f"loss {figures.loss:.3g} dB, gradient norm {figures.gradient_norm:.3g}); {saved}. Lower "
                "config.train.lr, check the data (mossformer-jax data inspect), or find the source of a NaN with "
                "--debug-nans"
            )

    def _validate(self, journal: Journal | SilentJournal, request: StopRequest) -> float | None:
        """Validates, updates the plateau and writes the best weights. Returns None if a signal interrupted it."""
        try:
            validated = self._validation(self.state.weights, lambda: any_process(bool(request.received)))
        except Exception:
            # Save first, so that a bad file or an utterance too long for the memory does not lose trained steps.
            if jax.process_count() == 1:
                self._save(None)
            raise
        if validated is None:
            return None
        score = validated.si_sdri_db
        self.results = self.results.after(validated, self.step, self.step / self.steps_per_epoch, self.recipe)
        best = self.results.best_step == self.step
        factor = place(np.asarray(self.results.plateau.factor, np.float32), replicated(self.mesh))
        self.state = self.state._replace(plateau_factor=factor)
        figures = {"si_sdri_db": score, "si_sdr_db": validated.si_sdr_db}
        # Until a validation has a finite SI-SDRi, best/ holds the last weights.
        unscored = self.results.best_si_sdri_db is None
        why = validated.why_undefined + (f"; {BEST}/ holds the last weights" if unscored else "")
        journal.validated(self.step, figures, best=best, examples=validated.examples, why_undefined=why)
        if best or unscored:
            # Written before the checkpoint that refers to it: a run killed in between repeats both.
            self._write_weights(BEST, score if best else None)
        return score

    def _save(self, score: float | None) -> None:
        notes = checkpoint_notes(self.results, self._batches.get_state(), self._meter.unrecorded, self.config)
        # Written before the checkpoint, like the best weights: a run with the last checkpoint counts as finished.
        self._write_weights("last", score)
        self.checkpoints.save(self.step, states.to_arrays(self.state), notes, score=score)

    def _write_weights(self, name: str, score: float | None) -> None:
        weights = states.on_host(self.state.weights, self.mesh)
        if self._first_process:
            write_weights(self.workdir / name, self.model, weights, self.results.output_gains, self.step, score)

    def _validation_is_due(self) -> bool:
        regular = self.step % self._validate_every == 0 or self.step == self.total_steps
        return regular and self.results.validated_step != self.step

    @property
    def _validate_every(self) -> int:
        return self.recipe.validate_every or self.steps_per_epoch

    @property
    def _checkpoint_every(self) -> int:
        return self.recipe.checkpoint_every or self._validate_every

    def _is_asked_to_stop(self, request: StopRequest) -> bool:
        if jax.process_count() > 1 and self.step % STEPS_BETWEEN_AGREEMENTS:
            return False
        return any_process(bool(request.received))

    def _introduce(self, journal: Journal | SilentJournal) -> None:
        devices = f"{self.mesh.size} {jax.devices()[0].platform} device(s)"
        journal.note(
            f"{count_parameters(self.model):,} parameters on {devices} {dict(self.mesh.shape)}, steps {self.step} to "
            f"{self.total_steps}, {self.steps_per_epoch} per epoch"
        )
        if isinstance(self._batches, DeviceBatches):
            journal.note(f"the recordings take {self._batches.num_bytes / 1e9:.2f} GB on each device")
