"""First use of models from both hubs, against a stand-in on the loopback: download, conversion, interruptions."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mossformer_jax.cli import main
from mossformer_jax.model import ModelConfig
from mossformer_jax.weights import hub_download, load_model, load_parameters, read_config, store
from mossformer_jax.weights.hub_cache import cache_folder, cached_models, read_source
from mossformer_jax.weights.published import HUGGING_FACE, PUBLISHED
from tests.parity import oracle
from tests.weights.hub_server import HubServer, Repository

pytestmark = pytest.mark.skipif(not oracle.is_installed(), reason=oracle.MISSING)

B_NAME = "speech_mossformer2_separation_temporal_8k"
B_REPOSITORY = f"damo/{B_NAME}"
WEIGHTS = "pytorch_model.pt"
# A process that loads a model where torch cannot be imported.
LOAD = """
import sys; sys.modules["torch"] = None
from mossformer_jax.weights import load_parameters
load_parameters(sys.argv[1])
"""


def config_of(name: str) -> ModelConfig:
    """A tiny network with the options of a published one."""
    published = PUBLISHED[name]
    return ModelConfig(
        encoder_channels=24,
        model_channels=24,
        num_blocks=1,
        num_sources=published.num_sources,
        sample_rate=published.sample_rate,
        input_level_db=published.input_level_db,
        direct_decoding=published.direct_decoding,
        fsmn_channels=None if published.family == "D" else 256,
    )


def files_of(name: str, folder: Path) -> tuple[dict[str, bytes], object]:
    """The files of a published repository, written from the oracle, and the network."""
    config = config_of(name)
    network = oracle.build(config)
    state_dict = network.state_dict()
    match PUBLISHED[name].family:
        case "A":
            oracle.write_family_a(folder, state_dict)
        case "B":
            oracle.write_family_b(folder, state_dict)
        case "C":
            oracle.write_family_c(folder, state_dict, config)
            settings = json.loads((folder / "config.json").read_text())
            (folder / "config.json").write_text(json.dumps(settings | {"config_name": name}))
        case "D":
            oracle.write_family_d(folder, state_dict)
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    return {"README.md": b"# A model\n", "examples/mix.wav": b"RIFF", **files}, network


@pytest.fixture(scope="module")
def b_files(tmp_path_factory):
    return files_of(B_NAME, tmp_path_factory.mktemp("b") / "b")[0]


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The stand-in for both hubs, with an empty cache."""
    server = HubServer()
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", server.address)
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.setenv("MOSSFORMER_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    # The client reads its variables when it is imported.
    for module in [name for name in sys.modules if name.partition(".")[0] == "huggingface_hub"]:
        monkeypatch.delitem(sys.modules, module)
    yield server
    server.close()
    for module in [name for name in sys.modules if name.partition(".")[0] == "huggingface_hub"]:
        sys.modules.pop(module)


@pytest.fixture
def b_hub(hub, b_files):
    """The stand-in with one repository of family B on ModelScope."""
    hub.repositories[B_REPOSITORY] = Repository(dict(b_files))
    return hub


def error_of(name: str, kind: type[Exception] = OSError) -> str:
    with pytest.raises(kind) as caught:
        load_parameters(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def nothing_is_cached() -> bool:
    return cached_models() == [] and not list(cache_folder().glob("*/.new-*"))


def needs_client(name: str) -> None:
    if PUBLISHED[name].hub == HUGGING_FACE and importlib.util.find_spec("huggingface_hub") is None:
        pytest.skip("huggingface_hub is not installed")


@pytest.mark.medium
@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_name_separates_as_the_official_code_does(hub, name, tmp_path, rng):
    needs_client(name)
    files, network = files_of(name, tmp_path / "official")
    hub.repositories[PUBLISHED[name].repository] = Repository(files)
    model = load_model(name)
    assert model.config == config_of(name)
    mixture_bt = 0.1 * rng.standard_normal((1, 800)).astype(np.float32)
    expected = oracle.forward(network, mixture_bt, direct_decoding=model.config.direct_decoding)
    assert np.linalg.norm(model(mixture_bt) - expected) < 1e-5 * np.linalg.norm(expected)

    needed = {file for file, _ in hub.downloads()}
    assert needed == files.keys() - {"README.md", "examples/mix.wav"}  # nothing else is downloaded
    (folder, source), *others = cached_models()
    assert others == []
    assert source["files"] == {
        file: {"size": len(files[file]), "sha256": hashlib.sha256(files[file]).hexdigest()} for file in needed
    }
    assert source["repository"] == PUBLISHED[name].repository
    if PUBLISHED[name].hub == HUGGING_FACE:
        assert source["revision"] == folder.name == hub.repositories[PUBLISHED[name].repository].commit

    hub.requests.clear()
    start = time.perf_counter()
    assert read_config(name) == config_of(name)
    assert time.perf_counter() - start < 1.0
    prefix = "" if PUBLISHED[name].hub == HUGGING_FACE else "modelscope:"
    load_parameters(prefix + PUBLISHED[name].repository)  # the same model by its repository
    assert hub.requests == []


@pytest.mark.medium
def test_every_published_name_is_converted_where_torch_cannot_be_imported(hub, tmp_path):
    has_client = importlib.util.find_spec("huggingface_hub") is not None
    names = [name for name in PUBLISHED if has_client or PUBLISHED[name].hub != HUGGING_FACE]
    for name in names:
        hub.repositories[PUBLISHED[name].repository] = Repository(files_of(name, tmp_path / name)[0])
    program = LOAD.replace("load_parameters(sys.argv[1])", "for name in sys.argv[1].split(): load_parameters(name)")
    process = start_process(" ".join(names), program)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert {source["repository"] for _, source in cached_models()} == {PUBLISHED[name].repository for name in names}


@pytest.mark.medium
def test_the_revision_of_the_first_download_stays_in_use(b_hub, b_files):
    first = load_parameters(B_NAME)[1]
    b_hub.repositories[B_REPOSITORY].files[WEIGHTS] = b"something new"
    assert all(np.array_equal(array, first[name]) for name, array in load_parameters(B_NAME)[1].items())
    # Another revision is another model; here it has the contents that are cached already.
    b_hub.repositories[B_REPOSITORY].files[WEIGHTS] = b_files[WEIGHTS]
    load_parameters(f"{B_NAME}@v1.0")
    assert sorted(source["requested"] or "" for _, source in cached_models()) == ["", "v1.0"]
    assert "has no such repository, revision or file" in error_of(f"{B_NAME}@v9", FileNotFoundError)


def test_a_model_in_our_format_is_used_unchanged(hub, tiny_model_folder, tiny_config):
    files = {file.name: file.read_bytes() for file in tiny_model_folder.iterdir()}
    hub.repositories["me/model"] = Repository(files | {"pytorch_model.bin": b"not needed"})
    config, parameters = load_parameters("modelscope:me/model")
    assert config == tiny_config
    assert all(np.array_equal(array, parameters[name]) for name, array in load_parameters(tiny_model_folder)[1].items())
    assert {name for name, _ in hub.downloads()} == {"config.json", "model.safetensors"}


@pytest.mark.medium
def test_any_repository_with_an_official_layout_is_taken(hub, b_files):
    hub.repositories["someone/finetuned"] = Repository({"last.ckpt": b_files[WEIGHTS]})
    assert read_config("modelscope:someone/finetuned").num_sources == 2
    hub.repositories["someone/pointer"] = Repository({"last_best_checkpoint": b"../x.pt\n", "x.pt": b"x"})
    assert "outside its folder" in error_of("modelscope:someone/pointer", ValueError)
    hub.repositories["someone/text"] = Repository({"README.md": b"hello"})
    assert "contains neither a mossformer-jax model nor an official" in error_of("modelscope:someone/text", ValueError)
    assert len(cached_models()) == 1


@pytest.mark.medium
def test_a_repository_that_is_not_the_published_model_is_refused(hub, tmp_path):
    three = dataclasses.replace(config_of(B_NAME), num_sources=3)
    oracle.write_family_b(tmp_path / "b", oracle.build(three).state_dict())
    hub.repositories[B_REPOSITORY] = Repository({WEIGHTS: (tmp_path / "b" / WEIGHTS).read_bytes()})
    assert "is not the published model: num_sources is 3, not 2" in error_of(B_NAME, ValueError)
    assert nothing_is_cached()


@pytest.mark.medium
def test_an_interrupted_download_is_continued(b_hub, b_files):
    size = len(b_files[WEIGHTS])
    b_hub.cut_after[WEIGHTS] = size // 5
    # Each attempt continues the one before.
    assert f"connection closed after {3 * (size // 5):,} of {size:,} bytes" in error_of(B_NAME)
    assert nothing_is_cached()
    b_hub.cut_after.clear()
    load_parameters(B_NAME)
    ranges = [start for name, start in b_hub.downloads() if name == WEIGHTS]
    assert ranges == [None, *(f"bytes={k * (size // 5)}-" for k in (1, 2, 3))]
    assert not list(cache_folder().glob("*/download"))


def start_process(name: str, program: str = LOAD) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", program, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.medium
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
@pytest.mark.parametrize("name", [B_NAME, "someone/model"])
def test_a_killed_download_is_continued(b_hub, b_files, name):
    if name != B_NAME and importlib.util.find_spec("huggingface_hub") is None:
        pytest.skip("huggingface_hub is not installed")
    b_hub.repositories["someone/model"] = Repository(dict(b_files))
    half = len(b_files[WEIGHTS]) // 2
    b_hub.stall_after[WEIGHTS] = half
    process = start_process(name)
    deadline = time.monotonic() + 60
    while not (parts := [p for p in cache_folder().glob("*/download/*/*/*.part") if p.stat().st_size == half]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert nothing_is_cached()
    b_hub.stall_after.clear()
    load_parameters(name)
    downloads = [download for download in b_hub.downloads() if download[0] == WEIGHTS]
    assert downloads == [(WEIGHTS, None), (WEIGHTS, f"bytes={half}-")]
    assert not parts[0].exists()


@pytest.mark.medium
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_killed_conversion_is_repeated_without_a_download(b_hub):
    program = LOAD.replace(
        "load_parameters(sys",
        "from mossformer_jax.weights import store; import os\n"
        "store.write_atomically = lambda path, data: (path.write_bytes(data[:1000]), os.kill(os.getpid(), 9))\n"
        "load_parameters(sys",
    )
    process = start_process(B_NAME, program)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert cached_models() == []
    (leftover,) = cache_folder().glob("*/.new-*")
    b_hub.requests.clear()
    load_parameters(B_NAME)
    assert b_hub.downloads() == []
    assert not leftover.exists()


@pytest.mark.medium
def test_two_processes_download_once(b_hub):
    processes = [start_process(B_NAME) for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert b_hub.downloads() == [(WEIGHTS, None)]
    assert len(cached_models()) == 1


def full_disk(*_):
    raise OSError(errno.ENOSPC, "cannot be written: No space left on device", "model.safetensors")


@pytest.mark.medium
def test_a_full_disk_leaves_no_partial_files(b_hub, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(hub_download, "write", full_disk)
        assert "No space left" in error_of(B_NAME)
    assert nothing_is_cached()
    with monkeypatch.context() as patch:
        patch.setattr(store, "write_atomically", full_disk)
        assert "No space left" in error_of(B_NAME)
    assert nothing_is_cached()
    b_hub.requests.clear()
    load_parameters(B_NAME)
    assert b_hub.downloads() == []  # the download was complete


def test_a_revoked_file_is_an_error(b_hub):
    b_hub.refused[WEIGHTS] = 404
    assert f"no such repository, revision or file ({WEIGHTS})" in error_of(B_NAME, FileNotFoundError)
    b_hub.refused[WEIGHTS] = 403
    assert f"{WEIGHTS} cannot be downloaded (ModelScope answers 403 Forbidden)" in error_of(B_NAME)
    assert nothing_is_cached()


def test_a_file_with_a_wrong_digest_is_not_used(b_hub):
    repository = b_hub.repositories[B_REPOSITORY]
    repository.digests[WEIGHTS] = "0" * 64
    assert f"{WEIGHTS} does not have the SHA-256 digest that the hub lists; try again" in error_of(B_NAME)
    assert nothing_is_cached()
    repository.digests.clear()
    load_parameters(B_NAME)


@pytest.mark.medium
def test_a_cached_model_that_is_incomplete_is_made_again(b_hub):
    load_parameters(B_NAME)
    ((folder, _),) = cached_models()
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(1000)
    load_parameters(B_NAME)
    (folder / "source.json").unlink()
    load_parameters(B_NAME)
    assert read_source(folder) is not None


def test_offline_only_the_cache_is_used(b_hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "is not in the cache, and HF_HUB_OFFLINE is set" in error_of(B_NAME, FileNotFoundError)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    load_parameters(B_NAME)
    b_hub.requests.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    load_parameters(B_NAME)
    assert b_hub.requests == []


@pytest.fixture
def hf_hub(hub, b_files):
    """The stand-in with one repository of family B on Hugging Face, for the real client."""
    if importlib.util.find_spec("huggingface_hub") is None:
        pytest.skip("huggingface_hub is not installed")
    hub.repositories["someone/model"] = Repository(dict(b_files))
    return hub


@pytest.mark.medium
def test_hugging_face_a_broken_off_download_is_continued(hf_hub, b_files):
    size = len(b_files[WEIGHTS]) // 5
    hf_hub.cut_after[WEIGHTS] = size
    assert "the download from the Hugging Face hub failed (" in error_of("someone/model")
    assert nothing_is_cached()
    hf_hub.cut_after.clear()
    load_parameters("someone/model")
    starts = [start for name, start in hf_hub.downloads() if name == WEIGHTS]
    assert starts == [None, *(f"bytes={k * size}-" for k in (1, 2, 3))]


def test_hugging_face_a_file_with_a_wrong_digest_is_not_used(hf_hub):
    hf_hub.repositories["someone/model"].digests[WEIGHTS] = "0" * 64
    assert f"{WEIGHTS} does not have the SHA-256 digest that the hub lists" in error_of("someone/model")
    assert nothing_is_cached()
    hf_hub.repositories["someone/model"].digests.clear()
    load_parameters("someone/model")


def test_hugging_face_missing_repositories_revisions_and_files_are_named(hf_hub):
    assert "no such model; give 'default' or the path" in error_of("someone/else", FileNotFoundError)
    assert "has no revision v9; check the name" in error_of("someone/model@v9", FileNotFoundError)
    hf_hub.refused[WEIGHTS] = 404
    assert "the download from the Hugging Face hub failed (" in error_of("someone/model")
    assert nothing_is_cached()


def test_hugging_face_offline_a_model_must_be_in_the_cache(hf_hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "is not in the cache, and HF_HUB_OFFLINE is set" in error_of("someone/model", FileNotFoundError)


@pytest.mark.medium
def test_hugging_face_offline_a_download_of_its_own_client_is_converted(hf_hub, monkeypatch):
    program = "import sys, huggingface_hub; huggingface_hub.snapshot_download(sys.argv[1])"
    process = start_process("someone/model", program)
    assert process.communicate()[1] == ""
    hf_hub.requests.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    load_parameters("someone/model")
    assert hf_hub.requests == []
    assert cached_models()[0][1]["revision"] == hf_hub.repositories["someone/model"].commit


def test_the_error_for_an_unknown_name_suggests_the_nearest(hub):
    for wrong in ("mossformer2_ss_16k", "MossFormer2_SS_16", "mossformer2-librimix-2sp"):
        assert "did you mean " in error_of(wrong, FileNotFoundError)
    assert "did you mean" not in error_of("something", FileNotFoundError)
    error_of("modelscope:no/model", FileNotFoundError)
    assert not cache_folder().exists()


def test_a_server_that_is_not_a_hub_is_an_error(hub, monkeypatch):
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", f"{hub.address}/elsewhere")
    assert "no such repository, revision or file (the list of its files)" in error_of(B_NAME, FileNotFoundError)
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:1")
    assert "the list of its files cannot be downloaded from http://127.0.0.1:1 (" in error_of(B_NAME)


@pytest.mark.slow
def test_one_command_separates_with_a_published_model(b_hub, tmp_path, monkeypatch):
    program = (
        "import sys; sys.modules['torch'] = None\nfrom mossformer_jax.cli import main\nsys.exit(main(sys.argv[1:]))"
    )
    mixture = Path(__file__).parents[2] / "examples" / "mixture.wav"
    arguments = ["separate", str(mixture), "--model", B_NAME, "-o", str(tmp_path / "out"), "--no-compile-cache"]
    ran = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert len(list((tmp_path / "out").glob("*.wav"))) == 2


@pytest.mark.medium
def test_info_lists_the_published_models_and_the_cache(b_hub, capsys):
    load_parameters(B_NAME)
    assert main(["info"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in PUBLISHED:
        (line,) = [line for line in lines if line.startswith(f"{name} ")]
        assert ("cached" in line) == (name == B_NAME)
    assert any(line.startswith("default ") for line in lines)
    assert any(str(cache_folder()) in line for line in lines)
