"""Trains on one accelerator for a given time, with mixtures drawn on the accelerator itself.

    python .gpu/kit/train_gpu.py SECONDS

All speech is kept on the accelerator as one int16 array, and a compiled program draws the mixtures
(accelerator_mixing.py), so that the speed does not depend on the CPU. The training step is that of `mossformer-jax
train`. The learning rate decays with time instead of steps, so that the decay ends when the time is over, whatever the
speed of the machine. Options are environment variables (`OPTIONS`). The project's root must be in PYTHONPATH.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import math
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from accelerator_mixing import Bank, make_bank, make_draw
from held_out import HeldOut
from jax import random
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mossformer_jax.data.layouts import open_mixtures
from mossformer_jax.data.utterances import Utterances
from mossformer_jax.model import ModelConfig
from mossformer_jax.sharding import by_rows, make_mesh, place, replicated
from mossformer_jax.training.configuration import load_config
from mossformer_jax.training.output import RESULT_FILE, write_weights
from mossformer_jax.training.recipe import Recipe
from mossformer_jax.training.state import TrainState, begin, on_host
from mossformer_jax.training.step import Metrics, make_train_step

BEGAN = time.monotonic()
OPTIONS = {
    "DATA": "/tmp/data",  # folder that setup.sh unpacks the speech into
    "OUT": "/tmp/out",
    "CONFIG": "configs/default_8k.py",
    "OVERRIDES": "",  # of the config: "--config.model.num_blocks=8 --config.data.train.single_share=0.0"
    "START": "default",  # initial weights: default, a model folder, or none
    "BATCH": "64",
    "CROP": "4.0",  # seconds
    "LR": "1.5e-3",
    "WARMUP": "200",  # steps
    "DECAY": "0.6",  # last fraction of the time, over which the learning rate falls to zero
    "EMA": "0.999",
    "DTYPE": "float32",  # or bfloat16
    "REMAT": "blocks",  # needs the least memory bandwidth according to the compiler; or products, none
    "VALIDATE_EVERY": "90",  # seconds
    "NOISE": "0.0",  # fraction of the mixtures to which recorded noise is added
    "NOISE_SNR": "5,25",  # dB
    "SEED": "0",
    "MAX_STEPS": "0",  # 0: as many as there is time for
}
ENDLESS = 10**8  # steps; the time ends the training


def option(name: str) -> str:
    """The value of an option."""
    return os.environ.get(name, OPTIONS[name])


class Log:
    """Prints records and writes them to log.jsonl."""

    def __init__(self, path: Path):
        self._path = path
        path.write_text("")

    def __call__(self, **record: Any) -> None:
        """Adds a record, with the seconds since the start."""
        line = json.dumps({"seconds": round(time.monotonic() - BEGAN, 1), **record})
        print(line, flush=True)
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(line + "\n")


def read_options() -> tuple[ConfigDict, ModelConfig, Recipe]:
    """The config, with the options applied, its model and its recipe."""
    config = load_config(option("CONFIG"), ["--config.data.root=" + option("DATA"), *option("OVERRIDES").split()])
    config.model.update(dtype=option("DTYPE"), remat=option("REMAT"))
    recipe = {
        **config.train.to_dict(),
        **{"lr": float(option("LR")), "min_lr": 0.0, "warmup_steps": int(option("WARMUP")), "decay_steps": 0},
        **{"steps": ENDLESS, "ema_decay": float(option("EMA")), "seed": int(option("SEED"))},
        "initial_weights": None if option("START") in ("", "none") else option("START"),
    }
    return config, ModelConfig.from_dict(config.model.to_dict()), Recipe.from_dict(recipe)


def read_banks(data: dict[str, Any], speeds: tuple[int, ...], pool: ThreadPoolExecutor) -> tuple[Bank, Bank | None]:
    """Speech and, with NOISE, recorded noise."""
    rate = data["sample_rate"]
    speech = Utterances.from_manifest(
        Path(option("DATA")) / "speech8k" / "manifest.csv", sample_rate=rate, split=data.get("split")
    )
    bank = make_bank(speech, speeds, data.get("max_speaker_seconds"), pool)
    if float(option("NOISE")) == 0:
        return bank, None
    recorded = Utterances.from_folder(Path(option("DATA")) / "noise8k", sample_rate=rate, speaker_level=-1)
    return bank, make_bank(recorded, (100,), None, pool)


def compile_step(model: ModelConfig, recipe: Recipe, mesh: Mesh, state: TrainState, batch: Any, log: Log) -> Any:
    """The compiled training step; falls back to `remat="blocks"` if the chosen one needs too much memory.

    Raises:
        RuntimeError: neither of them can be compiled.
    """
    step = None
    limit_bytes = (jax.devices()[0].memory_stats() or {}).get("bytes_limit", math.inf)
    for remat in dict.fromkeys((model.remat, "blocks")):
        began = time.monotonic()
        try:
            program = make_train_step(dataclasses.replace(model, remat=remat), recipe, ENDLESS, mesh)
            step = program.lower(state, batch).compile()
        except Exception as error:  # the compiler itself may run out of memory
            log(remat=remat, failed=str(error)[:300])
            continue
        needed = step.memory_analysis().temp_size_in_bytes
        log(remat=remat, compile_seconds=round(time.monotonic() - began, 1), temporary_gb=round(needed / 1e9, 2))
        if needed < 0.85 * limit_bytes:
            break
    if step is None:
        raise RuntimeError("the training step cannot be compiled; use a smaller BATCH")
    return step


class Validator:
    """Validates weights and writes last/ and best/.

    Attributes:
        best: the best SI-SDRi so far, in dB.
    """

    def __init__(self, out: Path, model: ModelConfig, mesh: Mesh, held_out: HeldOut):
        self._out, self._model, self._mesh, self._held_out = out, model, mesh, held_out
        self.best = -math.inf

    def __call__(self, state: TrainState, steps: int) -> float:
        """SI-SDRi in dB."""
        si_sdri_db, gains = self._held_out(state.weights)
        weights = on_host(state.weights, self._mesh)
        names = ["last"] + ["best"] * (si_sdri_db > self.best)
        self.best = max(self.best, si_sdri_db)
        for name in names:
            write_weights(self._out / name, self._model, weights, gains, steps, si_sdri_db)
            (self._out / name / RESULT_FILE).unlink()  # keeps the number of files small; log.jsonl has the result
        return si_sdri_db


def main() -> None:
    """Trains."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: train_gpu.py SECONDS")
    limit = float(sys.argv[1])
    out = Path(option("OUT"))
    out.mkdir(parents=True, exist_ok=True)
    log = Log(out / "log.jsonl")
    stopped: list[bool] = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))

    pool = ThreadPoolExecutor(16)
    config, model, recipe = read_options()
    data, rate = config.data.train.to_dict(), model.sample_rate
    batch_size, num_samples = int(option("BATCH")), round(float(option("CROP")) * rate)
    mesh, device = make_mesh(), jax.devices()[0]
    log(device=device.device_kind, jax=jax.__version__, options={name: option(name) for name in OPTIONS})

    speeds = tuple(data.get("speeds", (100,)))
    bank, noises = read_banks(data, speeds, pool)
    hours = round(len(bank.samples) / rate / 3600, 2)
    log(speech_hours=hours, speakers=len(bank.first), streams=len(bank.length))
    noise_snr = tuple(map(float, option("NOISE_SNR").split(",")))
    draw = jax.jit(
        make_draw(data, speeds, model.num_sources, num_samples, batch_size, float(option("NOISE")), noise_snr),
        out_shardings=by_rows(mesh),
    )
    key = random.key(int(option("SEED")) + 1000)
    state = begin(model, recipe, mesh)
    step = compile_step(model, recipe, mesh, state, draw(bank, noises, random.fold_in(key, 0)), log)

    validation = Path(option("DATA")) / "heldout" / "validation"
    table = open_mixtures("csv", path=str(validation / "mixtures.csv"), sample_rate=rate)
    validate = Validator(out, model, mesh, HeldOut(model, table, mesh, min(30, len(table)), pool))
    at_start = validate(state, 0)
    validating = time.monotonic()
    validate(state, 0)  # without the compilation, for the time
    validation_seconds = time.monotonic() - validating
    log(step=0, si_sdri_db=round(at_start, 3), validation_seconds=round(validation_seconds, 2))

    began = time.monotonic()
    duration = limit - (began - BEGAN) - validation_seconds - 3.0
    if duration < 5:
        raise SystemExit(f"the preparation took longer than {limit:g} s allow; give more seconds")
    decay, max_steps = float(option("DECAY")), int(option("MAX_STEPS")) or math.inf
    validated_at = logged_at = began
    # A few steps are in flight while their metrics are computed, so that the accelerator does not wait for the host.
    in_flight: collections.deque[jax.Array] = collections.deque()
    recent: collections.deque[Metrics] = collections.deque(maxlen=500)
    steps, outside_training = 0, 0.0
    curve = [(0, at_start)]

    def fetch(remaining: int) -> None:
        while len(in_flight) > remaining:
            recent.append(Metrics(*np.asarray(in_flight.popleft()).tolist()))

    while True:
        now = time.monotonic()
        share = (now - began) / duration
        if share >= 1 or stopped or steps >= max_steps:
            break
        factor = min(1.0, (1.0 - share) / decay) if decay else 1.0
        state = state._replace(plateau_factor=place(np.asarray(factor, np.float32), replicated(mesh)))
        state, metrics = step(state, draw(bank, noises, random.fold_in(key, steps)))
        in_flight.append(metrics)
        steps += 1
        fetch(4)
        if now - logged_at > 10 and recent:
            logged_at = now
            log(
                step=steps,
                loss_db=round(float(np.mean([metrics.loss for metrics in recent])), 3),
                lr=recent[-1].learning_rate,
                gradient_norm=round(float(np.median([metrics.gradient_norm for metrics in recent])), 2),
                skipped=int(recent[-1].skipped),
                mixtures_per_second=round(steps * batch_size / (now - began - outside_training), 1),
            )
        if now - validated_at > float(option("VALIDATE_EVERY")):
            fetch(0)
            paused = time.monotonic()
            curve.append((steps, validate(state, steps)))
            log(step=steps, si_sdri_db=round(curve[-1][1], 3))
            validated_at = time.monotonic()
            outside_training += validated_at - paused
    fetch(0)
    training = time.monotonic() - began - outside_training
    curve.append((steps, validate(state, steps)))
    mixture_hours = steps * batch_size * num_samples / rate / 3600
    summary = {
        "device": device.device_kind,
        "steps": steps,
        "batch": batch_size,
        "crop_seconds": num_samples / rate,
        "dtype": model.dtype,
        "mixture_hours": round(mixture_hours, 3),
        "mixtures_per_second": round(steps * batch_size / training, 2),
        "mixture_hours_per_minute": round(mixture_hours / training * 60, 3),
        "seconds_per_step": round(training / max(steps, 1), 4),
        "loss_db": round(float(np.mean([metrics.loss for metrics in recent])), 3) if recent else None,
        "skipped_steps": int(recent[-1].skipped) if recent else 0,
        "si_sdri_db_before": round(at_start, 3),
        "si_sdri_db_after": round(curve[-1][1], 3),
        "si_sdri_db_best": round(validate.best, 3),
        "peak_gb": round((device.memory_stats() or {}).get("peak_bytes_in_use", 0) / 1e9, 2),
        "seconds": round(time.monotonic() - BEGAN, 1),
        "curve": curve,
        "options": {name: option(name) for name in OPTIONS},
    }
    (out / "train.json").write_text(json.dumps(summary, indent=1) + "\n")
    print(json.dumps({name: value for name, value in summary.items() if name not in ("curve", "options")}))


if __name__ == "__main__":
    main()
