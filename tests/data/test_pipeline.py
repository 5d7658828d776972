"""Training and evaluation batches."""

from __future__ import annotations

import itertools
import json
import logging

import numpy as np
import pytest

from mossformer_jax.audio import write_audio
from mossformer_jax.audio.lengths import Ladder
from mossformer_jax.data.batch import Batch
from mossformer_jax.data.crops import CroppedMixtures
from mossformer_jax.data.demo import DemoUtterances
from mossformer_jax.data.drawn import DrawnMixtures
from mossformer_jax.data.mixing import DynamicMixing
from mossformer_jax.data.pipeline import evaluation_batches, train_batches
from mossformer_jax.data.records import Mixture
from mossformer_jax.data.utterances import Utterances

RATE = 8000


class NumberedMixtures:
    """Every sample of mixture i is i + 1, so that a row shows which mixture it contains."""

    num_sources, sample_rate = 2, RATE

    def __init__(self, lengths, broken=()):
        self.lengths, self.broken = lengths, broken

    def __len__(self):
        return len(self.lengths)

    def mixture_id(self, index):
        return f"mixture{index}"

    def num_samples(self, index):
        return self.lengths[index]

    def read(self, index, start=0, num_samples=None):
        if index in self.broken:
            raise ValueError(f"mixture{index}.wav: is damaged")
        length = min(self.lengths[index] - start, num_samples or self.lengths[index])
        sources = np.full((2, length), index + 1, np.float32)
        return Mixture(f"mixture{index}", sources, RATE, mixture=2 * sources[0])


@pytest.fixture(scope="module")
def dynamic() -> DynamicMixing:
    """Unlike the classes of this file, this can be sent to worker processes."""
    return DynamicMixing(DemoUtterances(num_speakers=2, utterances_per_speaker=2), speeds=(95, 100, 105), epoch_size=10)


def assert_equal(batch, other):
    for name, array, expected in zip(batch._fields, batch, other, strict=True):
        assert array.dtype == expected.dtype
        assert array.tobytes() == expected.tobytes(), name


def take(batches, count):
    return list(itertools.islice(batches, count))


def test_a_batch_has_mixtures_sources_and_lengths(dynamic):
    batch = next(train_batches(dynamic, batch_size=3, num_samples=4000))
    assert {name: (array.shape, array.dtype.name) for name, array in batch._asdict().items()} == {
        "mixture": ((3, 4000), "float32"),
        "sources": ((3, 2, 4000), "float32"),
        "lengths": ((3,), "int32"),
        "index": ((3,), "int32"),
    }
    np.testing.assert_allclose(batch.mixture, batch.sources.sum(1), atol=1e-6)


def test_short_mixtures_are_padded_and_their_lengths_are_kept():
    mixtures = CroppedMixtures(NumberedMixtures([30, 500]), speeds=(100,))
    for batch in take(train_batches(mixtures, batch_size=2, num_samples=100), 3):
        for row, index in enumerate(batch.index):
            length = (30, 100)[index]
            assert batch.lengths[row] == length
            assert (batch.sources[row, :, :length] == index + 1).all()
            assert (batch.mixture[row, :length] == 2 * (index + 1)).all()
            assert not batch.sources[row, :, length:].any()
            assert not batch.mixture[row, length:].any()


def test_every_epoch_has_each_mixture_once_in_a_new_order():
    mixtures = CroppedMixtures(NumberedMixtures([50] * 12), speeds=(100,))
    batches = train_batches(mixtures, batch_size=4, num_samples=50)
    first, second = (np.concatenate([batch.index for batch in take(batches, 3)]) for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(12))
    assert list(first) != list(second)


def test_batches_depend_on_the_seed_and_differ_between_steps(dynamic):
    one, other = take(train_batches(dynamic, batch_size=2, num_samples=800), 2)
    assert one.mixture.tobytes() != other.mixture.tobytes()
    assert_equal(one, next(train_batches(dynamic, batch_size=2, num_samples=800)))
    reseeded = next(train_batches(dynamic, batch_size=2, num_samples=800, seed=1))
    assert one.mixture.tobytes() != reseeded.mixture.tobytes()


def test_each_epoch_draws_different_crops(dynamic):
    batches = take(train_batches(dynamic, batch_size=1, num_samples=800), 20)
    assert len({batch.mixture.tobytes() for batch in batches}) == 20


@pytest.mark.parametrize("process_count", [2, 4])
def test_processes_hold_the_rows_of_one_batch_in_order(dynamic, process_count):
    options = {"batch_size": 4, "num_samples": 800, "process_count": process_count}
    whole = take(train_batches(dynamic, batch_size=4, num_samples=800), 3)
    parts = [take(train_batches(dynamic, process_index=index, **options), 3) for index in range(process_count)]
    for step, batch in enumerate(whole):
        assert_equal(batch, Batch(*map(np.concatenate, zip(*(part[step] for part in parts), strict=True))))


@pytest.mark.medium
def test_batches_after_a_restore_equal_those_of_an_uninterrupted_run(dynamic):
    options = {"batch_size": 4, "num_samples": 800, "seed": 3}
    batches = train_batches(dynamic, **options)
    take(batches, 3)
    state = json.loads(json.dumps(batches.get_state()))
    rest = take(batches, 9)
    again = train_batches(dynamic, **options)
    next(again)
    again.set_state(state)
    for batch, expected in zip(take(again, 9), rest, strict=True):
        assert_equal(batch, expected)
    assert again.get_state() == batches.get_state()


@pytest.mark.medium
def test_workers_restore_the_same_batches(dynamic):
    options = {"batch_size": 4, "num_samples": 800, "seed": 3}
    expected = take(train_batches(dynamic, **options), 7)
    batches = train_batches(dynamic, num_workers=2, **options)
    batches.set_state({"step": 3, "seed": 3, "batch_size": 4, "epoch_size": 10})
    for batch, other in zip(take(batches, 4), expected[3:], strict=True):
        assert_equal(batch, other)
    assert batches.get_state()["step"] == 7
    batches.close()


def test_a_state_of_different_batches_is_an_error(dynamic):
    batches = train_batches(dynamic, batch_size=4, num_samples=800, seed=3)
    with pytest.raises(ValueError, match="the saved state has seed=4, but the config has 3"):
        batches.set_state({**batches.get_state(), "seed": 4})
    with pytest.raises(ValueError, match="the saved state has epoch_size=11, but the config has 10"):
        batches.set_state({**batches.get_state(), "epoch_size": 11})


def test_a_broken_mixture_is_logged_and_replaced_deterministically(caplog):
    mixtures = CroppedMixtures(NumberedMixtures([50] * 10, broken=(3,)), speeds=(100,))
    options = {"batch_size": 5, "num_samples": 50, "max_failed_share": 0.1}
    batches = train_batches(mixtures, **options)
    with caplog.at_level(logging.WARNING):
        taken = take(batches, 6)
    assert batches.failures == ["mixture3.wav: is damaged"]
    assert [record.getMessage() for record in caplog.records] == [
        "mixture replaced (failure 1 of 1 allowed): mixture3.wav: is damaged"
    ]
    for batch, other in zip(taken, take(train_batches(mixtures, **options), 6), strict=True):
        assert 3 not in batch.index
        assert_equal(batch, other)
        np.testing.assert_array_equal(batch.sources[:, 0, 0], batch.index + 1)


def test_more_broken_mixtures_than_allowed_stop_the_training():
    mixtures = CroppedMixtures(NumberedMixtures([50] * 20, broken=(3, 7, 9)), speeds=(100,))
    with pytest.raises(
        ValueError, match=r"3 files or mixtures could not be read, but only 2 may fail; the last one: mixture"
    ):
        take(train_batches(mixtures, batch_size=5, num_samples=50, max_failed_share=0.1), 4)
    broken = CroppedMixtures(NumberedMixtures([50] * 20, broken=range(20)), speeds=(100,))
    with pytest.raises(ValueError, match="10 mixtures in a row could not be read; the last one: mixture"):
        next(train_batches(broken, batch_size=5, num_samples=50, max_failed_share=1.0))


def test_a_broken_file_counts_once_even_with_different_messages():
    class Moody(NumberedMixtures):
        def read(self, index, start=0, num_samples=None):
            if index in self.broken:
                raise ValueError(f"mixture{index}.wav: cannot be read from sample {start}")
            return super().read(index, start, num_samples)

    mixtures = CroppedMixtures(Moody([500] * 4, broken=(3,)), speeds=(100,))
    # The share of so few mixtures is below one, but one failure is always allowed.
    batches = train_batches(mixtures, batch_size=5, num_samples=50)
    take(batches, 10)
    assert len(batches.failures) == 1
    with pytest.raises(ValueError, match="1 files or mixtures could not be read, but only 0 may fail"):
        take(train_batches(mixtures, batch_size=5, num_samples=50, max_failed_share=0.0), 10)


@pytest.mark.parametrize("max_speaker_seconds", [None, 60.0])
def test_a_missing_file_is_replaced_in_dynamic_mixing(tmp_path, rng, max_speaker_seconds):
    for name in ("anna/u", "ben/u", "ben/v", "cleo/u"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_audio(tmp_path / f"{name}.wav", 0.1 * rng.standard_normal(1000).clip(-3, 3), RATE)
    speech = Utterances.from_folder(tmp_path, sample_rate=RATE)
    (tmp_path / "ben" / "u.wav").unlink()
    mixing = DynamicMixing(speech, epoch_size=10, max_speaker_seconds=max_speaker_seconds)
    batches = train_batches(mixing, batch_size=4, num_samples=400, max_failed_share=0.1)
    assert all(batch.mixture.any(axis=1).all() for batch in take(batches, 3))
    assert len(batches.failures) == 1
    assert "ben" in batches.failures[0]
    assert "no such file" in batches.failures[0]


def test_a_flac_file_cut_near_its_start_is_replaced(tmp_path, rng):
    """libsndfile opens it, but fails in the first seek."""
    for name in ("anna/u", "ben/u", "ben/v", "cleo/u"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_audio(tmp_path / f"{name}.flac", 0.1 * rng.standard_normal(9000).clip(-3, 3), RATE)
    broken = tmp_path / "ben" / "u.flac"
    broken.write_bytes(broken.read_bytes()[:300])
    mixing = DynamicMixing(Utterances.from_folder(tmp_path, sample_rate=RATE), epoch_size=10)
    batches = train_batches(mixing, batch_size=4, num_samples=400, max_failed_share=1.0)
    assert all(batch.mixture.any(axis=1).all() for batch in take(batches, 4))
    (failure,) = batches.failures
    assert failure.startswith(f"{broken}: is damaged or cut short: cannot be read beyond sample 0 of 9000")
    assert failure.endswith("copy or convert it again")


@pytest.mark.parametrize("process_count", [1, 2, 4])
def test_evaluation_batches_contain_every_mixture_once(process_count):
    lengths = [100, 3000, 110, 90, 2500, 120, 700, 105, 3000]
    mixtures = NumberedMixtures(lengths)
    options = {"batch_size": 4, "ladder": Ladder(step=128), "process_count": process_count}
    hosts = [evaluation_batches(mixtures, process_index=index, **options) for index in range(process_count)]
    assert len({len(host) for host in hosts}) == 1
    seen = []
    for batches in zip(*hosts, strict=True):
        assert len({batch.mixture.shape for batch in batches}) == 1
        assert batches[0].mixture.shape in hosts[0].shapes
        assert any(batch.mask.any() for batch in batches)
        for batch in batches:
            for row in np.flatnonzero(batch.mask):
                index, length = batch.index[row], int(batch.lengths[row])
                assert length == lengths[index]
                assert (batch.mixture[row, :length] == 2 * (index + 1)).all()
                assert (batch.sources[row, :, :length] == index + 1).all()
                assert not batch.mixture[row, length:].any()
                assert batch.mixture.shape[1] == Ladder(step=128).rung(length)
                seen.append(int(index))
            filling = ~batch.mask
            assert not batch.mixture[filling].any()
            assert (batch.lengths[filling] == batch.mixture.shape[1]).all()
            assert (batch.index[filling] == -1).all()
    assert sorted(seen) == list(range(len(lengths)))


@pytest.mark.medium
def test_evaluation_batches_are_repeatable_with_any_number_of_workers(dynamic):
    mixtures = DrawnMixtures(dynamic, num_mixtures=5, max_samples=800)
    batches = evaluation_batches(mixtures, batch_size=2)
    first = list(batches)
    assert len(first) == len(batches) == 3
    for batch, other in zip(first, batches, strict=True):
        assert_equal(batch, other)
    for batch, other in zip(first, evaluation_batches(mixtures, batch_size=2, num_workers=1), strict=True):
        assert_equal(batch, other)


def test_a_broken_mixture_stops_an_evaluation():
    with pytest.raises(ValueError, match=r"mixture3\.wav: is damaged"):
        list(evaluation_batches(NumberedMixtures([50] * 5, broken=(3,)), batch_size=2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 3, "process_count": 2}, r"batch_size=3 is not allowed: must be a multiple of the 2 process"),
        ({"process_index": 1}, "process_index=1 is not allowed"),
        ({"num_workers": -1}, "num_workers=-1 is not allowed"),
        ({"num_samples": 0}, "num_samples=0 is not allowed"),
        ({"seed": -1}, "seed=-1 is not allowed"),
        ({"max_failed_share": 2.0}, r"max_failed_share=2\.0 is not allowed"),
    ],
)
def test_options_out_of_range_are_errors(dynamic, options, message):
    with pytest.raises(ValueError, match=message):
        train_batches(dynamic, **{"batch_size": 2, "num_samples": 100, **options})
