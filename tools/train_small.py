"""Trains a small two-speaker 8 kHz MossFormer2 on mixtures drawn at random from a folder of speech, on a CPU.

This made the first default model; MODEL_CARD.md says with which options. The folder holds `manifest.csv` with the
columns path, speaker, speaker_known, split (train or dev) and n_samples, and the mono 8 kHz files that it names.

    .venv/bin/python tools/train_small.py --data SPEECH --run RUN --steps 4000
    .venv/bin/python tools/train_small.py --data SPEECH --run RUN --steps 4000 --export mossformer_jax/assets/default

A run resumes from RUN/state.safetensors where there is one. The learning rate is constant after a warm-up and falls
linearly to zero over the last --decay-steps, so that a run can be continued with a larger --steps.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import soundfile
from flax import nnx
from safetensors.numpy import load_file, save_file

from mossformer_jax.model import ModelConfig, MossFormer2
from mossformer_jax.scoring import pit_si_sdr, pit_si_sdr_loss, si_sdr
from mossformer_jax.weights import save_model

CONFIG = ModelConfig(
    sample_rate=8000,
    encoder_channels=256,
    model_channels=128,
    num_blocks=4,
    kernel_size=32,
    stride=16,
    group_size=128,
    query_key_channels=64,
    fsmn_channels=128,
    dropout=0.0,
    # Training mixtures are at -25 dB RMS; by the measure of input_level_db, which leaves pauses out, that is -19 dB.
    input_level_db=-19.0,
)
MIXTURE_RMS_DB = -25.0
DEV_SECONDS, DEV_BATCHES, DEV_BATCH = 4.0, 10, 4
ACTIVE_DB = -40.0  # a crop is redrawn while its RMS level is below this: it would be a mixture of one


class Speech:
    """Utterances in memory, by speaker.

    Args:
        folder: where manifest.csv is.
        split: "train" or "dev".
    """

    def __init__(self, folder: Path, split: str):
        with open(folder / "manifest.csv", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == split]
        self.speakers: dict[str, list[np.ndarray]] = {}
        for row in rows:
            # Clips of unlabelled speakers may be of one voice: as one speaker they are never mixed with each other.
            name = row["speaker"] if row["speaker_known"] == "1" else "unknown"
            samples, _ = soundfile.read(folder / row["path"], dtype="int16")
            self.speakers.setdefault(name, []).append(samples)
        self.names = sorted(self.speakers)
        seconds = np.array([min(sum(map(len, self.speakers[name])) / CONFIG.sample_rate, 60.0) for name in self.names])
        self.chance = seconds / seconds.sum()

    def draw_crop(self, rng: np.random.Generator, name: str, num_samples: int) -> np.ndarray:
        """A crop with speech in it, at an RMS level of 1; a clip that is too short is placed at random in silence."""
        clips = self.speakers[name]
        for _ in range(20):
            clip = clips[rng.integers(len(clips))]
            crop = np.zeros(num_samples, np.float32)
            if len(clip) >= num_samples:
                start = rng.integers(len(clip) - num_samples + 1)
                crop[:] = clip[start : start + num_samples]
            else:
                start = rng.integers(num_samples - len(clip) + 1)
                crop[start : start + len(clip)] = clip
            crop -= crop.mean()
            level = np.sqrt(np.mean(np.square(crop))) / 32768.0
            if 20 * np.log10(level + 1e-9) > ACTIVE_DB:
                break
        return crop / (32768.0 * level + 1e-9)

    def draw_sources(self, rng: np.random.Generator, batch: int, num_samples: int, spread_db: float) -> np.ndarray:
        """Sources `(b, 2, t)` of two speakers each, level difference N(0, spread_db), mixture at MIXTURE_RMS_DB."""
        sources = np.empty((batch, 2, num_samples), np.float32)
        for pair in sources:
            names = rng.choice(self.names, 2, replace=False, p=self.chance)
            difference_db = rng.normal(0.0, spread_db)
            for source, name, sign in zip(pair, names, (0.5, -0.5), strict=True):
                source[:] = self.draw_crop(rng, name, num_samples) * 10 ** (sign * difference_db / 20)
            level = np.sqrt(np.mean(np.square(pair.sum(0))))
            pair *= 10 ** (MIXTURE_RMS_DB / 20) / level
        return sources


def learning_rate(step: jax.Array, args: argparse.Namespace) -> jax.Array:
    """Linear warm-up, constant, linear decay to zero at the last step."""
    warm_up = (step + 1) / args.warmup_steps
    decay = (args.steps - step) / args.decay_steps
    return args.learning_rate * jnp.clip(jnp.minimum(warm_up, decay), 0.0, 1.0)


def make_steps(args: argparse.Namespace):
    """The initial parameters, buffers and optimizer state, and the compiled functions of training and validation."""
    graphdef, params, buffers = nnx.split(MossFormer2(CONFIG, rngs=nnx.Rngs(args.seed)), nnx.Param, ...)
    optimizer = optax.chain(optax.clip_by_global_norm(5.0), optax.scale_by_adam())

    def separate(params, sources_bct):
        return nnx.merge(graphdef, params, buffers)(jnp.sum(sources_bct, axis=1))

    @jax.jit
    def train_step(params, optimizer_state, step, sources_bct):
        loss, gradients = jax.value_and_grad(lambda p: pit_si_sdr_loss(separate(p, sources_bct), sources_bct))(params)
        updates, new_state = optimizer.update(gradients, optimizer_state)
        rate = learning_rate(step, args)
        new_params = jax.tree.map(lambda p, u: p - rate * u, params, updates)
        # A step whose loss or gradient is not finite changes nothing.
        finite = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(gradients))
        keep = lambda new, old: jnp.where(finite, new, old)  # noqa: E731
        return jax.tree.map(keep, new_params, params), jax.tree.map(keep, new_state, optimizer_state), loss

    @jax.jit
    def improvement(params, sources_bct):
        mixture_b1t = jnp.sum(sources_bct, axis=1, keepdims=True)
        return pit_si_sdr(separate(params, sources_bct), sources_bct)[0] - si_sdr(mixture_b1t, sources_bct).mean(-1)

    return params, buffers, optimizer.init(params), train_step, improvement, jax.jit(separate)


def save_state(run: Path, step: int, state) -> None:
    """Writes step, parameters and optimizer state, whole or not at all."""
    arrays = {str(i): np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
    save_file(arrays | {"step": np.asarray(step)}, run / "state.tmp")
    os.replace(run / "state.tmp", run / "state.safetensors")


def restore_state(run: Path, state):
    """The step and state that `save_state` wrote, or step 0 and the given state."""
    if not (run / "state.safetensors").exists():
        return 0, state
    arrays = load_file(run / "state.safetensors")
    leaves, structure = jax.tree.flatten(state)
    loaded = [jnp.asarray(arrays[str(i)], leaf.dtype) for i, leaf in enumerate(leaves)]
    return int(arrays["step"]), jax.tree.unflatten(structure, loaded)


def validate(improvement, params, batches: list[np.ndarray]) -> float:
    """Mean SI-SDR improvement in dB over fixed mixtures of speakers that were never trained on."""
    return float(np.mean([improvement(params, batch) for batch in batches]))


def level_outputs(separate, params, batches: list[np.ndarray]) -> None:
    """Scales the decoder so that the sources add up to the mixture as nearly as one gain can make them.

    SI-SDR does not mind how loud a source is, so that training leaves the outputs at any level.
    """
    dot, power = 0.0, 0.0
    for batch in batches:
        summed = np.asarray(separate(params, batch)).sum(1)
        dot += float(np.sum(summed * batch.sum(1)))
        power += float(np.sum(np.square(summed)))
    params["decoder"]["kernel"] = params["decoder"]["kernel"].replace(params["decoder"]["kernel"][...] * dot / power)
    print(f"outputs scaled by {dot / power:.3f}")


def main() -> None:
    """Trains, or with --export writes what was trained as a stored model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--decay-steps", type=int, default=1500)
    parser.add_argument("--warmup-steps", type=int, default=100)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--spread-db", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--export", type=Path, help="write the run's weights there as a stored model, and stop")
    args = parser.parse_args()
    args.run.mkdir(parents=True, exist_ok=True)

    params, buffers, optimizer_state, train_step, improvement, separate = make_steps(args)
    step, (params, optimizer_state) = restore_state(args.run, (params, optimizer_state))
    dev = Speech(args.data, "dev")
    rng = np.random.default_rng(12345)
    dev_samples = round(DEV_SECONDS * CONFIG.sample_rate)
    dev_batches = [dev.draw_sources(rng, DEV_BATCH, dev_samples, args.spread_db) for _ in range(DEV_BATCHES)]
    if args.export:
        level_outputs(separate, params, dev_batches)
        save_model(args.export, CONFIG, nnx.merge_state(params, buffers), storage="float16")
        print(f"wrote step {step} to {args.export}")
        return

    train = Speech(args.data, "train")
    num_samples = round(args.seconds * CONFIG.sample_rate)
    losses: list[jax.Array] = []
    began = time.time()
    while step < args.steps:
        # Seeded by the step, so that a resumed run sees the batches that it would have seen.
        sources = train.draw_sources(np.random.default_rng((args.seed, step)), args.batch, num_samples, args.spread_db)
        params, optimizer_state, loss = train_step(params, optimizer_state, step, sources)
        losses.append(loss)
        step += 1
        if step % 20 == 0:
            jax.block_until_ready(loss)  # or batches would queue up without bound
        if step % 100 == 0 or step == args.steps:
            mean_loss = float(np.mean(losses[-100:]))
            line = f"step {step} loss {mean_loss:.3f} hours {(time.time() - began) / 3600:.3f}"
            if step % 500 == 0 or step == args.steps:
                line += f" dev_si_sdri {validate(improvement, params, dev_batches):.3f}"
            print(line, flush=True)
            with open(args.run / "log.txt", "a") as log:
                log.write(line + "\n")
            save_state(args.run, step, (params, optimizer_state))


if __name__ == "__main__":
    main()
