"""The training loop: compilation, transfers, saved weights, stopping."""

from __future__ import annotations

import dataclasses
import errno
import json
import logging
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict

from mossformer_jax.audio import write_audio
from mossformer_jax.cli import main
from mossformer_jax.model import MossFormer2
from mossformer_jax.training import loop, step, validation
from mossformer_jax.training.configuration import load_config
from mossformer_jax.training.initial_weights import initial_weights
from mossformer_jax.training.output import write_weights
from mossformer_jax.training.recipe import Recipe
from mossformer_jax.training.results import Results
from mossformer_jax.training.validation import Validated
from mossformer_jax.weights import load_parameters, save_model
from mossformer_jax.weights.parameters import flatten
from mossformer_jax.weights.store import model_folder
from tests.training import runs

TINY = str(runs.TINY)
SCHEDULE = ["--config.train.steps=12", "--config.train.validate_every=4", "--config.train.checkpoint_every=4"]


@pytest.fixture
def quick_step(monkeypatch):
    """A step that only counts; its metrics mark every step as skipped."""

    @jax.jit
    def step(state, batch):
        state = state._replace(step=state.step + 1)
        count = state.step.astype(jnp.float32)
        # The loss is the batch's, so that the batch is needed.
        return state, jnp.stack([batch.mixture.mean(), count, count, count, count, count])

    monkeypatch.setattr(loop, "make_train_step", lambda *_: step)


@pytest.fixture
def scores(monkeypatch) -> list[float]:
    """The SI-SDR improvements in dB that successive validations return."""
    found: list[float] = []

    def validate(*_):
        score = found.pop(0)
        return Validated(score, score, (2.0, score if np.isfinite(score) else 1.0), [])

    monkeypatch.setattr(loop, "Validation", lambda *_: validate)
    return found


def results(workdir, name: str) -> tuple[int, float | None]:
    result = json.loads((workdir / name / "result.json").read_text())
    return result["step"], result["si_sdri_db"]


@pytest.mark.slow
def test_only_one_validation_is_compiled_after_the_second_step(tmp_path):
    flags = ["--config.train.steps=6", "--config.train.validate_every=3", "--config.train.checkpoint_every=2"]
    for shared in (step.make_train_step, validation._score):
        shared.cache_clear()  # other tests may have compiled the same programs
    training = loop.Training(load_config(TINY, flags), tmp_path)
    compiled: list[tuple[int, str]] = []

    class Listener(logging.Handler):
        def emit(self, record):
            if record.getMessage().startswith("Finished XLA compilation of"):
                compiled.append((training.step, record.getMessage().split()[4]))

    # On the parent logger, because the module that logs a compilation differs between versions of JAX.
    jax_logger, listener = logging.getLogger("jax"), Listener()
    jax_logger.addHandler(listener)
    propagate, jax_logger.propagate = jax_logger.propagate, False
    try:
        with jax.log_compiles():
            outcome = training.run()
    finally:
        jax_logger.removeHandler(listener)
        jax_logger.propagate = propagate
    assert outcome.step == 6
    assert any(name == "jit(train_step)" for _, name in compiled), f"its compilation was not logged: {compiled}"
    late = [name for step, name in compiled if step >= 2]
    assert late == ["jit(score)"]


@pytest.mark.medium
def test_a_step_refuses_a_batch_that_is_not_on_the_devices(tmp_path, monkeypatch, quick_step, scores):
    training = loop.Training(load_config(TINY, SCHEDULE), tmp_path)
    place_rows = loop.place_rows
    # The first call only provides the shapes for the compilation.
    placed = iter([place_rows, lambda batch, mesh: batch])
    monkeypatch.setattr(loop, "place_rows", lambda batch, mesh: next(placed)(batch, mesh))
    with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device transfer"):
        training.run()


@pytest.mark.medium
def test_the_best_weights_are_those_of_the_best_validation(tmp_path, quick_step, scores):
    scores += [1.0, 3.0, 2.0]
    outcome = loop.Training(load_config(TINY, [*SCHEDULE, "--config.train.max_skipped=99"]), tmp_path).run()
    assert (outcome.best_step, outcome.best_si_sdri_db) == (8, 3.0)
    assert results(tmp_path, "best") == (8, 3.0)
    assert results(tmp_path, "last") == (12, 2.0)
    # Each with the output gains of its own validation.
    assert [load_parameters(tmp_path / name)[0].output_gains for name in ("best", "last")] == [(2.0, 3.0), (2.0, 2.0)]
    assert runs.notes(tmp_path, 12)["standing"]["output_gains"] == [2.0, 2.0]
    assert [record["best"] for record in runs.records(tmp_path) if record["kind"] == "validation"] == [
        True,
        True,
        False,
    ]


@pytest.mark.medium
def test_a_validation_that_is_not_finite_is_never_the_best(tmp_path, quick_step, scores):
    scores += [np.nan, 1.0, np.nan]
    outcome = loop.Training(load_config(TINY, [*SCHEDULE, "--config.train.max_skipped=99"]), tmp_path).run()
    assert (outcome.best_step, outcome.best_si_sdri_db) == (8, 1.0)


@pytest.mark.medium
def test_if_si_sdri_is_never_defined_the_best_weights_are_the_last(tmp_path, quick_step, scores):
    scores += [np.nan] * 3
    outcome = loop.Training(load_config(TINY, [*SCHEDULE, "--config.train.max_skipped=99"]), tmp_path).run()
    assert outcome.best_si_sdri_db is None
    assert results(tmp_path, "best") == results(tmp_path, "last") == (12, None)
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()
    log = (tmp_path / "log.txt").read_text()
    assert "nan" not in log.lower()
    reason = "SI-SDRi is undefined: the outputs of the network are not finite; best/ holds the last weights"
    assert f"validation at step 8: {reason}" in log
    assert (
        f"finished after step 12, SI-SDRi was undefined in every validation; {tmp_path / 'best'} holds the last weights"
        in log
    )
    assert model_folder(tmp_path) == tmp_path / "best"


@pytest.mark.parametrize("part", ["train", "validation"])
def test_silent_data_are_refused_before_the_first_step(tmp_path, part):
    write_audio(tmp_path / "zeros.wav", np.zeros(1600), 8000)
    write_audio(tmp_path / "noise.wav", 0.1 * np.random.default_rng(0).standard_normal(1600), 8000)
    config = load_config(TINY)
    for name in ("train", "validation"):
        file = "zeros" if name == part else "noise"
        (tmp_path / f"{name}.csv").write_text(f"source_1,source_2\n{file}.wav,{file}.wav\n")
        config.data[name] = ConfigDict({"layout": "csv", "path": str(tmp_path / f"{name}.csv"), "sample_rate": 8000})
    with pytest.raises(
        ValueError, match=rf"config.data.{part}: the audio of all 1 mixtures .* silent: {tmp_path}/zeros.wav;"
    ):
        loop.Training(config, tmp_path / "run")


@pytest.mark.medium
def test_too_many_skipped_steps_in_a_row_stop_the_run_with_one_line(tmp_path, capsys, quick_step, scores):
    scores.append(1.0)
    cache = ["--compile-cache", jax.config.jax_compilation_cache_dir]
    flags = ["--config", TINY, "--workdir", str(tmp_path), *cache, *SCHEDULE, "--config.train.max_skipped=6"]
    assert main(["train", *flags]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mossformer-jax: error: 6 steps in a row were skipped, up to step 6")
    assert "the newest checkpoint is of step 4" in line


@pytest.mark.medium
def test_a_failed_validation_does_not_lose_trained_steps(tmp_path, monkeypatch, quick_step, scores):
    training = loop.Training(load_config(TINY, [*SCHEDULE, "--config.train.max_skipped=99"]), tmp_path)
    with pytest.raises(IndexError):  # the fixture has no scores left
        training.run()
    assert training.checkpoints.steps() == [4]


@pytest.mark.medium
@pytest.mark.parametrize("steps", [12, 4], ids=["in the middle", "at the end"])
def test_a_signal_interrupts_a_validation_and_the_resumed_run_repeats_it(tmp_path, monkeypatch, quick_step, steps):
    flags = [*SCHEDULE, f"--config.train.steps={steps}", "--config.train.max_skipped=99"]
    for _ in range(2):
        stopped = loop.Training(load_config(TINY, flags), tmp_path)
        validation = stopped._validation

        def validate(weights, asked_to_stop, validation=validation):
            os.kill(os.getpid(), signal.SIGTERM)
            return validation(weights, asked_to_stop)

        stopped._validation = validate
        outcome = stopped.run()
        assert (outcome.step, outcome.stopped_by, outcome.best_si_sdri_db) == (4, "SIGTERM", None)

    resumed = loop.Training(load_config(TINY, flags), tmp_path)
    resumed._validation = lambda *_: Validated(1.0, 1.0, (1.0, 1.0), [])
    outcome = resumed.run()
    assert (outcome.step, outcome.stopped_by, outcome.best_step) == (steps, "", 4)
    validated = [record["step"] for record in runs.records(tmp_path) if record["kind"] == "validation"]
    assert validated == [4, 8, 12][: steps // 4]
    assert results(tmp_path, "last") == (steps, 1.0)


@pytest.mark.medium
def test_a_failed_final_validation_is_repeated_by_the_resumed_run(tmp_path, quick_step, scores):
    config = load_config(TINY, [*SCHEDULE, "--config.train.steps=4", "--config.train.max_skipped=99"])
    with pytest.raises(IndexError):  # the fixture has no scores left
        loop.Training(config, tmp_path).run()
    scores.append(1.0)
    assert loop.Training(config, tmp_path).run().best_si_sdri_db == 1.0
    assert results(tmp_path, "best") == results(tmp_path, "last") == (4, 1.0)


@pytest.mark.medium
def test_a_run_too_short_for_its_profile_is_not_an_error(tmp_path, quick_step, scores):
    scores += [1.0, 1.0, 1.0]
    config = load_config(TINY, [*SCHEDULE, "--config.train.max_skipped=99"])
    assert loop.Training(config, tmp_path, profile_steps=(50, 60)).run().step == 12


@pytest.mark.medium
def test_a_second_training_in_the_same_folder_is_refused(tmp_path, quick_step, scores):
    scores += [1.0, 1.0, 1.0]
    config = load_config(TINY, [*SCHEDULE, "--config.train.max_skipped=99"])
    first = loop.Training(config, tmp_path)
    with pytest.raises(ValueError, match="another training is running in this folder"):
        loop.Training(config, tmp_path)
    assert first.run().step == 12
    assert loop.Training(config, tmp_path).run().step == 12


@pytest.mark.medium
def test_training_works_on_a_file_system_without_locks(tmp_path, monkeypatch, caplog, quick_step, scores):
    fcntl = pytest.importorskip("fcntl")

    def flock(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    scores += [1.0, 1.0, 1.0]
    config = load_config(TINY, [*SCHEDULE, "--config.train.max_skipped=99"])
    assert loop.Training(config, tmp_path).run().step == 12
    assert "cannot be locked (Function not implemented); do not start a second training in it" in caplog.text


@pytest.mark.medium
def test_initial_weights_with_another_sample_rate_or_input_level_are_refused(tmp_path, tiny_config):
    config = dataclasses.replace(tiny_config, sample_rate=16000, input_level_db=-25.0)
    save_model(tmp_path / "model", config, nnx.state(MossFormer2(config, rngs=nnx.Rngs(0))))
    with pytest.raises(ValueError, match=r"use --config.model.sample_rate=16000 --config.model.input_level_db=-25"):
        initial_weights(tiny_config, Recipe(initial_weights=str(tmp_path / "model")))


def test_initial_weights_may_have_measured_output_gains(tmp_path, tiny_config):
    config = dataclasses.replace(tiny_config, output_gains=(5.6, 0.9))
    stored = flatten(nnx.state(MossFormer2(config, rngs=nnx.Rngs(0))))
    save_model(tmp_path / "model", config, stored)
    begun = initial_weights(tiny_config, Recipe(initial_weights=str(tmp_path / "model")))
    assert all(np.array_equal(begun[name], stored[name]) for name in stored)


@pytest.mark.medium
def test_validation_gains_are_multiplied_with_those_of_the_model(tmp_path, tiny_config):
    weights = flatten(nnx.state(MossFormer2(tiny_config, rngs=nnx.Rngs(0))))
    for before, found, after in [
        (None, None, None),
        (None, (5.0, 0.5), (5.0, 0.5)),
        ((2.0, 3.0), None, (2.0, 3.0)),
        ((2.0, 3.0), (5.0, 0.5), (10.0, 1.5)),
    ]:
        config = dataclasses.replace(tiny_config, output_gains=before)
        write_weights(tmp_path, config, weights, found, 1, None)
        stored_config, stored = load_parameters(tmp_path)
        assert stored_config.output_gains == after
        assert all(np.array_equal(stored[name], weights[name]) for name in weights)


def test_results_round_trip_through_json_and_earlier_versions_are_read():
    results = Results(best_si_sdri_db=3.0, best_step=4, output_gains=(5.6, 0.9), validated_step=4)
    fields = json.loads(json.dumps(dataclasses.asdict(results)))
    assert Results.from_dict(fields) == results
    del fields["output_gains"]
    earlier = Results.from_dict({**fields, "output_gain": 0.7})
    assert earlier == dataclasses.replace(results, output_gains=None)
    with pytest.raises(ValueError, match="unknown checkpoint field 'later'"):
        Results.from_dict({**fields, "later": 1})


@pytest.mark.medium
def test_a_sinusoidal_filterbank_leaves_all_other_initial_weights_unchanged(tiny_config):
    config = dataclasses.replace(tiny_config, encoder_channels=64, kernel_size=32, stride=16)
    drawn, begun = (initial_weights(config, Recipe(initial_filterbank=name)) for name in ("random", "sinusoids"))
    different = {name for name in drawn if not np.array_equal(drawn[name], begun[name])}
    assert different == {"encoder.kernel", "decoder.kernel"}
    for name in different:
        assert begun[name].shape == drawn[name].shape
        assert np.std(begun[name]) == pytest.approx(np.std(drawn[name]), rel=0.1)
