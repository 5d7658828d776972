"""Where recordings are separated: in this thread, in several threads of an accelerator, or in processes on a CPU."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for_connections
from typing import TYPE_CHECKING, Any

from mossformer_jax.cli.jobs import Job
from mossformer_jax.cli.results import Result

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from mossformer_jax.cli.attempt import Attempts
    from mossformer_jax.cli.ledger import Ledger
    from mossformer_jax.cli.progress import ProgressBar

_SECONDS_TO_STOP = 20.0
# Options of the parser that cannot be sent to another process, and are not needed there.
_PARSING = ("run", "usage_error", "overrides")


class InThisThread:
    """Separates one recording after the other."""

    width = 1

    def __init__(self, attempt: Callable[[Job, int], Result]):
        self._attempt = attempt
        self._done: deque[tuple[Job, int, Result]] = deque()

    def submit(self, job: Job, attempt: int) -> None:
        """Separates the recording."""
        self._done.append((job, attempt, self._attempt(job, attempt)))

    def next(self) -> tuple[Job, int, Result]:
        """The outcome."""
        return self._done.popleft()

    def close(self) -> None:
        """Does nothing."""


class Threads:
    """Separates recordings in threads, so that some are read and written while another is in the network.

    Args:
        attempts: separates a recording.
        width: number of threads.
    """

    def __init__(self, attempts: Attempts, width: int):
        self.width = width
        self._attempts = attempts
        self._executor = ThreadPoolExecutor(width)
        self._running: dict[Future[Result], tuple[Job, int]] = {}

    def submit(self, job: Job, attempt: int) -> None:
        """Starts a thread."""
        self._running[self._executor.submit(self._attempts, job, attempt)] = job, attempt

    def next(self) -> tuple[Job, int, Result]:
        """Waits for one of the threads."""
        done = next(iter(wait(self._running, return_when=FIRST_COMPLETED).done))
        job, attempt = self._running.pop(done)
        return job, attempt, done.result()

    def close(self) -> None:
        """Stops the threads after their current window."""
        self._attempts.stopping.set()
        self._executor.shutdown(cancel_futures=True)


class Processes:
    """Separates recordings in processes, each on its own share of the cores.

    A process that is killed, for example because memory has run out, is replaced, and its recording has failed.

    Args:
        options: those of `mossformer-jax separate`.
        width: number of processes.
        bar: the progress bar to update.
        ledger: records the recordings of killed processes; the processes record the others. May be None.
    """

    def __init__(self, options: argparse.Namespace, width: int, bar: ProgressBar, ledger: Ledger | None):
        self.width = width
        self._bar, self._ledger = bar, ledger
        self._options = {name: value for name, value in vars(options).items() if name not in _PARSING}
        self._context = multiprocessing.get_context("spawn")
        self._idle: list[int] = list(range(width))
        self._processes: dict[int, tuple[SpawnProcess, Connection]] = {}
        self._running: dict[int, tuple[Job, int]] = {}

    def submit(self, job: Job, attempt: int) -> None:
        """Sends the recording to an idle process, which is started if necessary."""
        number = self._idle.pop()
        if number not in self._processes:
            ours, theirs = self._context.Pipe()
            arguments = theirs, self._options, number, self.width
            process = self._context.Process(target=_work, args=arguments, daemon=True)
            process.start()
            theirs.close()
            self._processes[number] = process, ours
        self._running[number] = job, attempt
        self._bar.begin(job, job.input)
        with suppress(OSError):  # it has been killed, which `next` notices
            self._processes[number][1].send((job, attempt))

    def next(self) -> tuple[Job, int, Result]:
        """Waits for one of the processes.

        Raises:
            ValueError: a process cannot start, for example because the model cannot be loaded.
        """
        connections = {self._processes[number][1]: number for number in self._running}
        connection = wait_for_connections(list(connections))[0]
        number = connections[connection]  # type: ignore[index]
        job, attempt = self._running.pop(number)
        self._idle.append(number)
        self._bar.end(job)
        process, ours = self._processes[number]
        try:
            outcome = ours.recv()
        except (EOFError, OSError):
            process.join()
            ours.close()
            del self._processes[number]
            error = (
                f"{job.input}: the process that separated it ended with status {process.exitcode}, perhaps because "
                "memory ran out; use fewer --jobs or a smaller --memory"
            )
            result = Result(job, "failed", error=error, error_class="killed")
            if self._ledger is not None:
                self._ledger.refresh()
                if not self._ledger.has_done(job):  # it may have been killed later
                    self._ledger.add(result, attempt)
            return job, attempt, result
        if isinstance(outcome, BaseException):
            raise outcome
        return job, attempt, outcome

    def close(self) -> None:
        """Interrupts the processes, and kills those that do not stop."""
        for process, connection in self._processes.values():
            connection.close()  # an idle process ends
            if self._running:
                process.terminate()
        for process, _ in self._processes.values():
            process.join(_SECONDS_TO_STOP)
            if process.is_alive():
                process.kill()


# Up to `width` recordings at a time. `submit` starts an attempt at one; fewer than `width` may be under way. `next`
# waits for an attempt to end, and returns its job, its number and its outcome. `close` ends all attempts; incomplete
# files are removed.
Workers = InThisThread | Threads | Processes


def make_workers(
    attempts: Attempts | None, options: argparse.Namespace, bar: ProgressBar, ledger: Ledger | None
) -> Workers:
    """The workers that --jobs asks for; without `attempts`, these are processes."""
    if attempts is None:
        return Processes(options, options.jobs, bar, ledger)
    return InThisThread(attempts) if options.jobs == 1 else Threads(attempts, options.jobs)


def own_cores(number: int, width: int) -> set[int]:
    """The cores of process `number` of `width`; all cores if there are fewer cores than processes."""
    cores = sorted(os.sched_getaffinity(0))
    return set(cores[number::width]) if len(cores) >= width else set(cores)


def _work(connection: Connection, given: dict[str, Any], number: int, width: int) -> None:
    """The main function of a process: separates what it receives until the connection is closed."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if hasattr(os, "sched_setaffinity"):
        # Before JAX starts its threads, one per core: threads of several processes on one core slow each other down.
        os.sched_setaffinity(0, own_cores(number, width))
    try:
        from mossformer_jax.cli.attempt import load_attempts

        try:
            attempts = load_attempts(argparse.Namespace(**given))
        except (ValueError, OSError, RuntimeError) as error:
            connection.recv()
            connection.send(ValueError(str(error)))
            return
        while True:
            connection.send(attempts(*connection.recv()))
    except (EOFError, OSError):  # the main process has ended
        pass
    except KeyboardInterrupt:
        # XLA may be in the middle of a computation, and crashes if Python shuts down meanwhile.
        os._exit(130)
    finally:
        sys.stdout.flush()
