"""Separates a manifest with Ray actors, for clusters that already run Ray.

    pip install ray
    python examples/ray_separate.py calls.csv -o /data/separated --actors 20

Each actor loads the model once; JAX is imported in the actors only. A recording that fails becomes a row with its
error, and one whose actor has died is tried again. A rerun skips recordings whose sources exist. Files must be visible
to all nodes under the same path. On a cluster without Ray, `mossformer-jax separate --shard` needs no scheduler.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import ray

from mossformer_jax.cli.inputs import InputRecording
from mossformer_jax.cli.jobs import Job, plan_jobs
from mossformer_jax.cli.manifests import read_manifest


@ray.remote(max_restarts=-1)
class Actor:
    """One process with the model."""

    def __init__(self, model: str):
        from mossformer_jax import Separator

        self.separator = Separator.from_pretrained(model)

    def separate(self, path: str, outputs: list[str]) -> dict[str, Any]:
        """Separates one recording; an error of the recording is part of the row."""
        from mossformer_jax.separation import separate_file

        row: dict[str, Any] = {"input": path, "outputs": outputs}
        try:
            separated = separate_file(self.separator, path, outputs)
        except (OSError, ValueError) as error:
            return row | {"status": "failed", "error": str(error), "error_class": getattr(error, "kind", "other")}
        seconds = separated.timings.run_seconds
        return row | {"status": "done", "duration": separated.duration, "run_seconds": seconds, "error": None}


def separate_all(jobs: list[Job], model: str, num_actors: int, cpus: float, gpus: float, retries: int):
    """Yields one row per recording, in the order in which they are completed."""
    options = {"num_cpus": cpus, "num_gpus": gpus, "max_task_retries": retries}
    idle = [Actor.options(**options).remote(model) for _ in range(num_actors)]
    waiting, running = jobs[::-1], {}
    while waiting or running:
        while waiting and idle:
            job, actor = waiting.pop(), idle.pop()
            outputs = [str(path.absolute()) for path in job.outputs]
            running[actor.separate.remote(str(Path(job.input).absolute()), outputs)] = actor, job
        (done,), _ = ray.wait(list(running), num_returns=1)
        actor, job = running.pop(done)
        idle.append(actor)
        try:
            yield ray.get(done)
        except ray.exceptions.RayError as error:
            reason = " ".join(str(error).split())
            outputs = [str(path) for path in job.outputs]
            yield {"input": job.input, "outputs": outputs, "status": "failed", "error": reason, "error_class": "killed"}


def main() -> int:
    """Runs the script; the exit status is 1 if a recording failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", help="as of mossformer-jax separate --manifest (docs/corpora.md)")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--model", default="default", help="default, or a model folder that all nodes see")
    parser.add_argument("--actors", type=int, default=4)
    parser.add_argument("--cpus", type=float, default=1.0, help="of each actor")
    parser.add_argument("--gpus", type=float, default=0.0, help="of each actor")
    parser.add_argument("--retries", type=int, default=2, help="of a recording whose actor has died")
    options = parser.parse_args()
    recordings: list[InputRecording] = read_manifest(options.manifest)
    num_sources = 2  # of the default model
    if options.model != "default":
        config = json.loads((Path(options.model) / "config.json").read_text())
        num_sources = config["model"]["num_sources"]
    jobs = [job for job in plan_jobs(recordings, num_sources, options.output) if not job.is_done()]
    options.output.mkdir(parents=True, exist_ok=True)
    ray.init(ignore_reinit_error=True, log_to_driver=False)
    failed = 0
    with (options.output / "report.jsonl").open("a") as report:
        for row in separate_all(jobs, options.model, options.actors, options.cpus, options.gpus, options.retries):
            failed += row["status"] == "failed"
            print(json.dumps(row), file=report, flush=True)
    print(f"{len(jobs) - failed} recordings done, {failed} failed, {len(recordings) - len(jobs)} existed before")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
