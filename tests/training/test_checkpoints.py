from __future__ import annotations

import json
import logging
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from mossformer_jax.training.checkpoints import Checkpoints

NOTES = {"schedule": {"best": 1.5}, "data": {"next_index": 7}}


@pytest.fixture
def arrays(rng) -> dict[str, jax.Array]:
    """Every dtype of a training, among them bits that arithmetic would not keep (NaN payloads, -0, subnormals)."""
    bits = rng.integers(0, 2**32, (64, 100), np.uint32)
    return {
        "parameters/mask_net.weight": jnp.asarray(bits.view(np.float32)),
        "optimizer/0/mu/mask_net.weight": jnp.asarray(bits.astype(np.uint16).view(ml_dtypes.bfloat16)),
        "skipped": jnp.asarray(-3, jnp.int32),
        "plateau_factor": jnp.asarray(0.1, jnp.float32),
        "key": jnp.asarray([2**32 - 1, 1], jnp.uint32),
        "counts": jnp.arange(16, dtype=jnp.int32),
    }


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "checkpoints"


@pytest.fixture
def open_checkpoints(folder):
    """Opens the folder; all checkpoints are closed after the test."""
    opened = []

    def open_folder(**options) -> Checkpoints:
        opened.append(Checkpoints(folder, **options))
        return opened[-1]

    yield open_folder
    for checkpoints in opened:
        checkpoints.close()


@pytest.fixture
def two_steps(open_checkpoints, arrays) -> Checkpoints:
    """A folder with checkpoints at steps 100 and 200, whose notes contain the step."""
    checkpoints = open_checkpoints()
    for step in (100, 200):
        checkpoints.save(step, arrays, {"step": step}, score=step / 100)
    checkpoints.wait()
    return checkpoints


def abstract(arrays: dict[str, jax.Array]) -> dict[str, jax.ShapeDtypeStruct]:
    return {
        name: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding) for name, array in arrays.items()
    }


def assert_same_bits(restored: dict[str, jax.Array], expected: dict[str, jax.Array]) -> None:
    assert restored.keys() == expected.keys()
    for name, array in expected.items():
        assert restored[name].dtype == array.dtype
        assert restored[name].shape == array.shape
        assert np.asarray(restored[name]).tobytes() == np.asarray(array).tobytes(), name


def folders(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_restored_checkpoint_is_bit_identical(open_checkpoints, arrays) -> None:
    checkpoints = open_checkpoints()
    assert checkpoints.restore(abstract(arrays)) is None
    checkpoints.save(100, arrays, NOTES)
    step, restored, notes = checkpoints.restore(abstract(arrays))
    assert (step, notes) == (100, NOTES)
    assert_same_bits(restored, arrays)


def test_another_process_finds_the_newest_checkpoint(two_steps, open_checkpoints, arrays) -> None:
    reopened = open_checkpoints()
    assert reopened.steps() == [100, 200]
    assert reopened.restore(abstract(arrays))[2] == {"step": 200}


RESHARD = """
import json, sys
import jax
from jax.sharding import NamedSharding, PartitionSpec
from mossformer_jax.training.checkpoints import Checkpoints

source, target = map(Checkpoints, sys.argv[1:3])
mesh = jax.make_mesh((4, 2), ("data", "fsdp"))
abstract = {}
for name, (shape, dtype) in json.loads(sys.argv[3]).items():
    spec = PartitionSpec("fsdp") if shape and shape[0] > 2 else PartitionSpec()
    abstract[name] = jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))
step, arrays, notes = source.restore(abstract)
assert all(array.sharding == abstract[name].sharding for name, array in arrays.items())
assert arrays["counts"].addressable_shards[0].data.shape == (8,)
compiled = []
jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: compiled.append(event))
target.save(step, arrays, notes)
target.wait()
assert not [event for event in compiled if "compile" in event], compiled
"""


@pytest.mark.medium
def test_checkpoints_move_between_one_device_and_eight(open_checkpoints, folder, arrays, tmp_path) -> None:
    checkpoints = open_checkpoints()
    checkpoints.save(100, arrays, NOTES)
    checkpoints.wait()
    shapes = json.dumps({name: (array.shape, array.dtype.name) for name, array in arrays.items()})
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", RESHARD, folder, tmp_path / "from_eight", shapes]
    subprocess.run(command, env=environment, check=True)
    from_eight = Checkpoints(tmp_path / "from_eight")
    step, restored, notes = from_eight.restore(abstract(arrays))
    from_eight.close()
    assert (step, notes) == (100, NOTES)
    assert_same_bits(restored, arrays)


@pytest.mark.medium
def test_arrays_may_be_donated_while_they_are_written(open_checkpoints) -> None:
    checkpoints = open_checkpoints()
    overwrite = jax.jit(lambda arrays: jax.tree.map(lambda x: x * 0 - 1, arrays), donate_argnums=0)
    names = [f"w{i}" for i in range(4)]
    state = {name: jnp.zeros((512, 2048)) for name in names}  # 4 MB each: written for longer than a step takes
    for step in range(1, 9):
        state = {name: jnp.full((512, 2048), float(step)) for name in names}
        jax.block_until_ready(state)
        checkpoints.save(step, state, {})
        for _ in range(3):
            state = overwrite(state)
        jax.block_until_ready(state)
        _, restored, _ = checkpoints.restore(abstract(state))
        assert all((np.asarray(array) == step).all() for array in restored.values())


def test_saving_a_step_again_changes_nothing(two_steps, arrays) -> None:
    two_steps.save(200, arrays, {"step": "another"})
    assert two_steps.restore(abstract(arrays))[2] == {"step": 200}


@pytest.mark.parametrize(
    ("scores", "kept"),
    [
        ([1.0, 5.0, 2.0, 3.0, 4.0], {"2", "4", "5"}),
        ([1.0, 5.0, None, None, None], {"2", "4", "5"}),
        ([None, None, None, None, None], {"4", "5"}),
        ([5.0, float("nan"), None, None, None], {"1", "4", "5"}),
        ([-9.0, None, 5.0, 5.0, None], {"4", "5"}),
    ],
)
def test_the_latest_two_and_the_best_are_kept(folder, open_checkpoints, scores, kept) -> None:
    tiny = {"w": jnp.ones(2)}
    for step, score in enumerate(scores, start=1):
        if step in (1, 4):  # the kept checkpoints do not depend on a single process having written all of them
            checkpoints = open_checkpoints(keep_last=2, keep_best=1)
        checkpoints.save(step, tiny, {}, score=score)
        checkpoints.wait()
    assert folders(folder) == kept
    assert checkpoints.steps() == sorted(map(int, kept))


def test_files_are_arrays_and_json_only(two_steps, folder) -> None:
    """The checkpoint contains no executable formats: only files with the allowed first bytes."""
    for path in (folder / "200").rglob("*"):
        if path.is_dir():
            continue
        content = path.read_bytes()
        ocdbt = content[:4] in (b"\x0c\xdb\x3a\x2a", b"\x0c\xdb\x20\xde") or path.parent.name == "d"
        if not ocdbt and path.name != "commit_success.txt":
            json.loads(content)
        assert not content.startswith(b"\x80"), path  # how a pickle begins


def damage_removed(path: Path) -> None:
    path.unlink()


def damage_cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def damage_flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.medium
@pytest.mark.parametrize("damage", [damage_removed, damage_cut, damage_flipped])
def test_damage_to_any_file_is_detected_and_the_older_checkpoint_used(
    two_steps, folder, arrays, open_checkpoints, caplog, damage
) -> None:
    whole = folder.with_name("whole")
    shutil.copytree(folder / "200", whole)
    # Orbax writes these files after the checksums. They contain the time of writing and are not restored.
    unread = ("_CHECKPOINT_METADATA", "commit_success.txt")
    files = [path.relative_to(whole) for path in whole.rglob("*") if path.is_file()]
    files = [path for path in files if str(path) not in unread and path.stem != "commit_success"]
    assert len(files) > 6
    for file in files:
        damage(folder / "200" / file)
        caplog.clear()
        checkpoints = open_checkpoints()
        step, restored, notes = checkpoints.restore(abstract(arrays))
        assert (step, notes) == (100, {"step": 100}), file
        assert_same_bits(restored, arrays)
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert str(folder / "200") in record.message
        assert "\n" not in record.message
        assert folders(folder) == {"100", "200.damaged"}
        assert checkpoints.steps() == [100]
        shutil.rmtree(folder / "200.damaged")
        shutil.copytree(whole, folder / "200")


@pytest.mark.parametrize("content", ["[]", "3", "{", "\x00\xff", "[" * 100_000])
def test_metadata_of_orbax_that_are_no_object_do_not_matter(
    two_steps, folder, arrays, open_checkpoints, content
) -> None:
    two_steps.wait()
    (folder / "200" / "_CHECKPOINT_METADATA").write_text(content, encoding="latin-1")
    checkpoints = open_checkpoints()
    assert checkpoints.restore(abstract(arrays))[2] == {"step": 200}
    checkpoints.save(300, arrays, {"step": 300}, score=1.0)
    checkpoints.wait()


@pytest.mark.parametrize("content", ["[]", "3", "{", '{"si_sdri_db": "high"}'])
def test_a_score_that_is_no_number_is_damage(two_steps, folder, arrays, open_checkpoints, content) -> None:
    two_steps.wait()
    (folder / "200" / "metrics" / "metrics").write_text(content)
    checkpoints = open_checkpoints()
    assert checkpoints.restore(abstract(arrays))[2] == {"step": 100}
    assert checkpoints.moved_aside


def test_a_damaged_step_can_be_saved_again(two_steps, folder, arrays) -> None:
    for _ in range(2):
        damage_cut(folder / "200" / "notes" / "metadata")
        two_steps.restore(abstract(arrays))
        two_steps.save(200, arrays, {"step": "again"})
        assert two_steps.restore(abstract(arrays))[2] == {"step": "again"}
    assert folders(folder) == {"100", "200", "200.damaged", "200.damaged.damaged"}


def test_if_all_checkpoints_are_damaged_each_is_named_and_left_in_place(two_steps, folder, arrays) -> None:
    damage_cut(folder / "100" / "notes" / "metadata")
    damage_removed(folder / "200" / "checksums.json")
    with pytest.raises(ValueError, match=r"200: checksums.json is missing, 100: notes/metadata has changed"):
        two_steps.restore(abstract(arrays))
    assert folders(folder) == {"100", "200"}


def test_several_processes_do_not_fall_back_to_an_older_checkpoint(two_steps, folder, arrays, monkeypatch) -> None:
    damage_cut(folder / "200" / "notes" / "metadata")
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match=rf"{folder}/200: notes/metadata .* resume from {folder}/100"):
        two_steps.restore(abstract(arrays))
    assert folders(folder) == {"100", "200"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays | {"new": jnp.ones(3)}, r"new is missing, expected float32\[3\]"),
        (lambda arrays: {"key": arrays["key"]}, r"counts is int32\[16\], expected no such array, .* and 2 more"),
        (lambda arrays: arrays | {"key": jnp.ones(2)}, r"key is uint32\[2\], expected float32\[2\]"),
        (lambda arrays: arrays | {"counts": arrays["counts"][:8]}, r"counts is int32\[16\], expected int32\[8\]"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused_and_not_changed(two_steps, folder, arrays, change, message) -> None:
    refusal = rf"{folder}/200: this checkpoint belongs to another model or recipe: {message}.*--workdir"
    with pytest.raises(ValueError, match=refusal):
        two_steps.restore(abstract(change(arrays)))
    assert folders(folder) == {"100", "200"}


@pytest.mark.parametrize("name", ["5", "300"])
def test_a_folder_that_is_not_a_checkpoint_is_refused_and_not_changed(
    two_steps, folder, open_checkpoints, name
) -> None:
    (folder / name / "photographs").mkdir(parents=True)
    with pytest.raises(ValueError, match=rf"{folder}/{name}: not a training checkpoint.*--workdir"):
        open_checkpoints()
    assert (folder / name / "photographs").is_dir()


def test_a_full_disk_is_one_error_and_the_next_save_works(two_steps, folder, arrays, rng) -> None:
    large = {"w": jnp.asarray(rng.normal(size=2**18), jnp.float32)}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for then in (two_steps.wait, lambda: two_steps.save(400, arrays, {})):
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**18, hard))  # a quarter of what the array takes
        try:
            two_steps.save(300, large, {})
            with pytest.raises(
                OSError, match=rf"{folder}/300: .*not be written.*File too large.*{folder}/200"
            ) as raised:
                then()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert "\n" not in str(raised.value)
        assert two_steps.steps() == [100, 200]
    two_steps.save(300, large, {})
    assert two_steps.restore(abstract(large))[0] == 300
    assert folders(folder) == {"200", "300"}


def test_a_checkpoint_whose_checksums_cannot_be_written_gets_no_name(two_steps, folder, arrays, monkeypatch) -> None:
    def no_space(*_) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mossformer_jax.training.checkpoints.sha256_of", no_space)
    two_steps.save(300, arrays, {})
    with pytest.raises(OSError, match="No space left on device"):
        two_steps.wait()
    assert folders(folder) == {"100", "200"}


def test_partial_checkpoints_of_a_killed_process_are_removed(two_steps, folder, arrays, open_checkpoints):
    shutil.copytree(folder / "200", folder / "300.orbax-checkpoint-tmp")
    shutil.copytree(folder / "200", folder / ".removed" / "50")
    reopened = open_checkpoints()
    assert folders(folder) == {"100", "200"}
    assert reopened.restore(abstract(arrays))[0] == 200


SAVE_FOREVER = """
import itertools, sys
import jax.numpy as jnp
from mossformer_jax.training.checkpoints import Checkpoints

checkpoints = Checkpoints(sys.argv[1])
first = max(checkpoints.steps(), default=0) + 1
print("ready", flush=True)
for step in itertools.count(first):
    arrays = {f"w{i}": jnp.full((1000, 500), float(step)) for i in range(4)}
    checkpoints.save(step, arrays, {"step": step}, score=float(step % 3))
"""


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_only_complete_checkpoints(folder, rng, monkeypatch) -> None:
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    like = {f"w{i}": jnp.ones((1000, 500)) for i in range(4)}
    newest = 0
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", SAVE_FOREVER, folder], stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"ready\n"
        while not any(int(name) > newest for name in folders(folder) if name.isdecimal()):
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.5))  # a save takes about 0.1 s: the kill falls anywhere within one
        process.kill()
        process.communicate()
        checkpoints = Checkpoints(folder)
        step, restored, notes = checkpoints.restore(abstract(like))
        checkpoints.close()
        assert all((np.asarray(array) == step).all() for array in restored.values())
        assert notes == {"step": step}
        assert step > newest  # the checkpoints from before the kill still exist
        newest = step
        assert all(name.isdecimal() for name in folders(folder))  # nothing was damaged, nothing is left over


def test_routine_messages_of_orbax_are_not_logged(open_checkpoints, arrays, caplog) -> None:
    with caplog.at_level(logging.INFO):
        checkpoints = open_checkpoints()
        checkpoints.save(1, arrays, {})
        checkpoints.restore(abstract(arrays))
        logging.getLogger("absl").info("of another library")
    assert caplog.messages == ["of another library"]
