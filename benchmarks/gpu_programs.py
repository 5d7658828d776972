"""The programs that `benchmarks.gpu` measures, each way in its own process."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor, wait

FORWARD = [("forward", 1, 4.0), ("forward", 8, 4.0), ("forward", 32, 4.0), ("forward", 1, 60.0)]
TRAINING = [("step", 8, 4.0), ("step", 1, 4.0), ("step", 32, 4.0), ("step", 16, 4.0)]
COMPILED = [("forward", 8, 4.0), ("step", 8, 4.0), ("forward", 1, 4.0), ("forward", 32, 4.0)]
SMALL = [("step", batch, 4.0) for batch in (64, 16, 128, 256)] + [("forward", batch, 4.0) for batch in (1, 32)]


def report(what: str, batch: int, seconds: float, note: str = "", **figures) -> None:
    print("@" + json.dumps({"what": what, "batch": batch, "seconds": seconds, "note": note, **figures}), flush=True)


def timed(run, deadline: float) -> list[float]:
    """Seconds of at least ten calls; empty if there is not enough time for them."""
    run()
    began = time.perf_counter()
    run()
    once = time.perf_counter() - began
    if time.monotonic() + 10 * once > deadline:
        return []
    took = []
    while len(took) < 10 or (sum(took) < 1.0 and len(took) < 100):
        began = time.perf_counter()
        run()
        took.append(time.perf_counter() - began)
    return took


def reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    short = "out of memory" if "RESOURCE_EXHAUSTED" in text or "out of memory" in text.lower() else text[:200]
    return f"{type(error).__name__}: {short}" if short != "out of memory" else short


def network_config(options: argparse.Namespace):
    from mossformer_jax.model import ModelConfig
    from mossformer_jax.weights import load_parameters

    if options.tiny:
        return ModelConfig(encoder_channels=40, model_channels=40, num_blocks=2)
    if options.model == "default":
        return dataclasses.replace(load_parameters("default")[0], output_gains=None, dropout=0.0)
    return ModelConfig(dropout=0.1)


def programs(options: argparse.Namespace) -> list[tuple]:
    if options.tiny:
        return [("forward", 1, 0.1), ("step", 2, 0.1)]
    if options.model == "default":
        return SMALL
    if "compiled" in options.measure:
        return COMPILED
    # The last one is for ways in which 32 mixtures do not fit into memory.
    return FORWARD + (TRAINING[:-1] if options.measure.startswith("ours") else TRAINING)


def noise(*shape: int):
    import numpy as np

    return 0.1 * np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def ours(options: argparse.Namespace) -> None:
    deadline = time.monotonic() + options.seconds
    import jax
    import numpy as np
    from flax import nnx

    from mossformer_jax.data.batch import Batch
    from mossformer_jax.model import MossFormer2
    from mossformer_jax.sharding import make_mesh, place_rows
    from mossformer_jax.training.recipe import Recipe
    from mossformer_jax.training.state import abstract_state, begin
    from mossformer_jax.training.step import make_train_step
    from mossformer_jax.weights.loaded import separation_program

    kind = options.measure.split(", ")[1]
    jax.config.update("jax_default_matmul_precision", "highest" if kind == "float32" else None)
    dtype = "bfloat16" if kind == "bfloat16" else "float32"
    config, mesh, recipe = dataclasses.replace(network_config(options), dtype=dtype), make_mesh(), Recipe()
    machine = f"{jax.devices()[0].device_kind}, jax {jax.__version__}"
    graphdef, state = nnx.split(MossFormer2(config, rngs=nnx.Rngs(0)))
    separate = separation_program(graphdef)
    wanted = [(*program, "blocks") for program in programs(options)]
    extra = []
    if kind != "float32":
        _, batch, seconds = next(program for program in programs(options) if program[0] == "step")
        extra = [("step", batch, seconds, remat) for remat in ("products", "none")]

    def batch_of(batch: int, seconds: float) -> Batch:
        sources = noise(batch, 2, round(8000 * seconds))
        lengths = np.full(batch, sources.shape[2], np.int32)
        return place_rows(Batch(sources.sum(1), sources, lengths), mesh)

    def prepare(what: str, batch: int, seconds: float, remat: str):
        began = time.monotonic()
        if what == "forward":
            mixture = jax.ShapeDtypeStruct((batch, round(8000 * seconds)), np.float32)
            program = separate.lower(state, mixture, jax.ShapeDtypeStruct((batch,), np.int32)).compile()
        else:
            trained = dataclasses.replace(config, remat=remat)
            samples = round(8000 * seconds)
            like = Batch(
                mixture=jax.ShapeDtypeStruct((batch, samples), np.float32),
                sources=jax.ShapeDtypeStruct((batch, 2, samples), np.float32),
                lengths=jax.ShapeDtypeStruct((batch,), np.int32),
            )
            of_state = abstract_state(trained, recipe, mesh)
            program = make_train_step(trained, recipe, 1000, mesh).lower(of_state, like).compile()
        return program, time.monotonic() - began

    # Programs are compiled in parallel, and all before the first is timed, because the compiler times kernels as well.
    pool, prepared = ThreadPoolExecutor(8), {}

    def prepare_all(programs: list[tuple]) -> None:
        prepared.update({program: pool.submit(prepare, *program) for program in programs})
        _, late = wait(prepared.values(), timeout=max(5.0, deadline - time.monotonic() - 25))
        if late:
            print(f"{len(late)} programs are still being compiled: the first times may be too long", file=sys.stderr)

    prepare_all(wanted)
    for program in wanted + extra:
        if program not in prepared:
            if time.monotonic() > deadline - 30:
                break
            prepare_all(extra)
        what, batch, seconds, remat = program
        usual = remat == wanted[0][3] or what == "forward"
        note = "" if usual else f", remat={remat}"
        if time.monotonic() > deadline:
            break
        try:
            compiled, prepare_seconds = prepared[program].result(timeout=max(1.0, deadline - time.monotonic()))
            memory = compiled.memory_analysis()
            gb = (
                memory.temp_size_in_bytes
                + memory.argument_size_in_bytes
                + memory.output_size_in_bytes
                - memory.alias_size_in_bytes
            ) / 1e9
            inputs = batch_of(batch, seconds)
            if what == "forward":
                run = lambda: jax.block_until_ready(compiled(state, inputs.mixture, inputs.lengths))  # noqa: E731, B023
            else:
                holder = [begin(dataclasses.replace(config, remat=remat), recipe, mesh)]

                def run() -> None:
                    holder[0], metrics = compiled(holder[0], inputs)  # noqa: B023
                    jax.block_until_ready((holder[0], metrics))  # noqa: B023

            took = timed(run, deadline)
        except Exception as error:
            report(what, batch, seconds, note, failed=reason(error), machine=machine)
            continue
        if not took:
            report(what, batch, seconds, note, failed="no time", machine=machine)
            continue
        figures = {"ms": 1000 * statistics.median(took), "calls": len(took), "gb": gb, "prepare": prepare_seconds}
        report(what, batch, seconds, note, **figures, fastest_ms=1000 * min(took), machine=machine)
    pool.shutdown(wait=False, cancel_futures=True)
    os._exit(0)  # does not wait for unfinished compilations


def pytorch(options: argparse.Namespace) -> None:
    deadline = time.monotonic() + options.seconds
    import torch

    from tests.parity import oracle

    torch.set_num_threads(os.cpu_count() or 1)
    place = "cuda" if torch.cuda.is_available() else "cpu"
    kind = options.measure.split(", ")[1]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = kind != "float32"
    synchronize = torch.cuda.synchronize if place == "cuda" else lambda: None
    mixed = lambda: torch.autocast(place, torch.bfloat16) if kind == "bfloat16" else contextlib.nullcontext()  # noqa: E731
    machine = f"{torch.cuda.get_device_name() if place == 'cuda' else 'cpu'}, torch {torch.__version__}"
    network = oracle.build(network_config(options)).to(place)
    called = torch.compile(network, dynamic=False) if "compiled" in options.measure else network
    optimizer = torch.optim.Adam(network.parameters(), lr=15e-5)
    failed_batch = float("inf")
    for what, batch, seconds in programs(options):
        if time.monotonic() > deadline:
            break
        if what == "step" and batch >= failed_batch:
            report(what, batch, seconds, failed="out of memory", machine=machine)
            continue
        began = time.monotonic()
        try:
            if place == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            sources = torch.from_numpy(noise(batch, 2, round(8000 * seconds))).to(place)
            mixture = sources.sum(1)
            if what == "forward":
                network.eval()

                def run() -> None:
                    with torch.no_grad(), mixed():  # not inference_mode: the official code caches positions
                        called(mixture)  # noqa: B023
                    synchronize()
            else:
                network.train()

                def run() -> None:
                    optimizer.zero_grad(set_to_none=True)
                    with mixed():
                        estimates = called(mixture)  # noqa: B023
                    pit_loss(torch.stack([one.float() for one in estimates], 1), sources).backward()  # noqa: B023
                    torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
                    optimizer.step()
                    synchronize()

            run()
            prepare_seconds = time.monotonic() - began
            took = timed(run, deadline)
            gb = torch.cuda.max_memory_allocated() / 1e9 if place == "cuda" else 0.0
        except Exception as error:
            report(what, batch, seconds, failed=reason(error), machine=machine)
            if what == "step" and reason(error) == "out of memory":
                failed_batch = min(failed_batch, batch)
            optimizer.zero_grad(set_to_none=True)
            continue
        if not took:
            report(what, batch, seconds, failed="no time", machine=machine)
            continue
        figures = {"ms": 1000 * statistics.median(took), "calls": len(took), "gb": gb, "prepare": prepare_seconds}
        report(what, batch, seconds, **figures, fastest_ms=1000 * min(took), machine=machine)
    os._exit(0)


def pit_loss(estimates, sources):
    """Negative SI-SDR in dB of two sources under the better permutation, mean over the batch."""
    import torch

    estimates, sources = (signal - signal.mean(-1, keepdim=True) for signal in (estimates, sources))

    def score(estimates):
        scale = (estimates * sources).sum(-1, keepdim=True) / (sources**2).sum(-1, keepdim=True)
        target = scale * sources
        ratio = (target**2).sum(-1) / ((estimates - target) ** 2).sum(-1)
        return 10 * torch.log10(ratio).mean(-1)

    return -torch.maximum(score(estimates), score(estimates.flip(1))).mean()
