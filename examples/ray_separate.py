"""Separates a manifest with Ray Data, for clusters that already run Ray.

    pip install 'ray[data]'
    python examples/ray_separate.py calls.csv -o /data/separated --actors 20

A pool of actors separates the recordings. Each actor loads the model once; JAX is imported in the actors only. A
recording that fails becomes a row with its error. Errors that can pass are tried again, and so is the recording of an
actor that has died. A rerun skips recordings whose sources exist. All nodes must see the files under the same paths.
`mossformer-jax report OUT/report.jsonl` shows the rows as a table. A cluster without Ray needs no scheduler:
`mossformer-jax separate --shard` does the same.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from ray.data import ActorPoolStrategy, DataContext

from mossformer_jax.cli import make_parser
from mossformer_jax.cli.download import is_url
from mossformer_jax.cli.inputs import find_recordings
from mossformer_jax.cli.jobs import Job, plan_jobs
from mossformer_jax.cli.manifests import read_manifest
from mossformer_jax.cli.run import plan_run

# Ray repeats a whole block if its actor dies, and each block costs the driver some memory.
MAX_BLOCKS = 10_000
FIELDS = ("status", "duration", "run_seconds", "compile_seconds", "real_time_factor", "warnings", "error")


class Separate:
    """One process with the model.

    Args:
        arguments: of `mossformer-jax separate`.
        retries: further attempts at a recording whose error can pass.
        cores: number of threads of the network.
    """

    def __init__(self, arguments: list[str], retries: int, cores: int):
        os.environ["NPROC"] = str(cores)  # the size of XLA's thread pool; it takes all cores of the node otherwise
        from mossformer_jax.cli.attempt import load_attempts

        self.retries = retries
        self.attempts = load_attempts(make_parser().parse_args(arguments))

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Separates one recording; its error, if it has one, is part of the row."""
        from mossformer_jax.cli.failures import CAN_PASS
        from mossformer_jax.cli.results import as_fields

        job = Job(row["input"], tuple(map(Path, row["outputs"])))
        for attempt in range(1, self.retries + 2):
            result = self.attempts(job, attempt)
            if result.error_class not in CAN_PASS or attempt > self.retries:
                break
            time.sleep(2.0 ** (attempt - 1))
        fields = as_fields(result)
        return row | {name: fields[name] for name in FIELDS} | {"error_class": result.error_class, "attempts": attempt}


def separate_all(jobs: list[Job], arguments: list[str], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yields one row per recording, in the order in which they are completed."""
    rows = {}
    for job in jobs:
        location = job.input if is_url(job.input) else os.path.abspath(job.input)
        rows[location] = {"input": location, "outputs": [os.path.abspath(path) for path in job.outputs]}
    DataContext.get_current().max_errored_blocks = -1  # blocks of actors that die again and again
    recordings = ray.data.from_items(list(rows.values()), override_num_blocks=min(len(rows), MAX_BLOCKS))
    separated = recordings.map(
        Separate,
        fn_constructor_args=(arguments, options.retries, max(1, int(options.cpus))),
        # With one recording at a time, the death of an actor costs no other recording an attempt.
        compute=ActorPoolStrategy(size=options.actors, max_tasks_in_flight_per_actor=1),
        num_cpus=options.cpus,
        num_gpus=options.gpus,
        ray_remote_args_fn=lambda: {"max_task_retries": options.retries},
    )
    for row in separated.iter_rows():
        del rows[row["input"]]
        yield row
    for row in rows.values():
        yield row | {"status": "failed", "error": "its actor died; see Ray's logs", "error_class": "killed"}


def main() -> int:
    """Runs the script; the exit status is 1 if a recording failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", help="as of mossformer-jax separate --manifest (docs/corpora.md)")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--model", default="default", help="default, or a model folder that all nodes see")
    parser.add_argument("--actors", type=int, default=4)
    parser.add_argument("--cpus", type=float, default=1.0, help="of each actor")
    parser.add_argument("--gpus", type=float, default=0.0, help="of each actor")
    parser.add_argument("--retries", type=int, default=2, help="at a recording whose error can pass")
    options = parser.parse_args()
    recordings = find_recordings([], listed=read_manifest(options.manifest))
    num_sources = 2  # of the default model
    if options.model != "default":
        num_sources = json.loads((Path(options.model) / "config.json").read_text())["model"]["num_sources"]
    jobs = plan_jobs(recordings, num_sources, options.output)
    todo = [job for job, known in plan_run(jobs, None, overwrite=False) if known is None]
    options.output.mkdir(parents=True, exist_ok=True)
    ray.init(ignore_reinit_error=True, log_to_driver=False)
    arguments = ["separate", "--manifest", options.manifest, "--model", options.model]
    failed = 0
    with (options.output / "report.jsonl").open("a") as report:
        for row in separate_all(todo, arguments, options) if todo else ():
            failed += row["status"] == "failed"
            print(json.dumps(row), file=report, flush=True)
    print(f"{len(todo) - failed} recordings done, {failed} failed, {len(jobs) - len(todo)} existed before")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
