"""Reading PyTorch's files without PyTorch, compared with PyTorch."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from mossformer_jax.model import ModelConfig
from mossformer_jax.weights.torch_reader import read_torch_file
from mossformer_jax.weights.torch_tensors import DTYPES
from tests.parity import oracle

CONFIG = ModelConfig(encoder_channels=24, model_channels=24, num_blocks=1)
V1 = ModelConfig(encoder_channels=24, model_channels=24, num_blocks=1, fsmn_channels=None)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "checkpoint.pt"


def error_of(file: Path) -> str:
    with pytest.raises(ValueError, match=": ") as caught:
        read_torch_file(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: ")
    assert "\n" not in message
    return message.removeprefix(f"{file}: ")


def check_equal(ours, theirs) -> None:
    """Compares everything that was saved, tensors bit by bit."""
    if isinstance(theirs, torch.Tensor):
        expected = theirs.detach().clone(memory_format=torch.contiguous_format)
        assert ours.shape == tuple(expected.shape)
        assert ours.dtype.name == str(expected.dtype).removeprefix("torch.")
        assert ours.tobytes() == expected.reshape(-1).view(torch.uint8).numpy().tobytes()
        assert not ours.flags.writeable or ours.size == 0
    elif isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        for key, value in theirs.items():
            check_equal(ours[key], value)
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs)
        for our_item, their_item in zip(ours, theirs, strict=True):
            check_equal(our_item, their_item)
    else:
        assert ours == theirs


def save_and_compare(file: Path, saved, **options) -> None:
    torch.save(saved, file, **options)
    check_equal(read_torch_file(file), torch.load(file, map_location="cpu", weights_only=True))


FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "older"])


@FORMATS
@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_is_read_bit_for_bit(file, name, zipped):
    bits = torch.randint(0, 256, (3, 32), dtype=torch.uint8)
    tensor = bits % 2 == 0 if name == "bool" else bits.view(getattr(torch, name))
    torch.save({"x": tensor}, file, _use_new_zipfile_serialization=zipped)
    check_equal(read_torch_file(file), {"x": tensor})  # PyTorch cannot read all of them back from the older format


@FORMATS
def test_views_of_one_storage_are_read_bit_for_bit(file, zipped):
    base = torch.arange(60.0)
    matrix = base.view(6, 10)
    views = {
        "whole": base,
        "transposed": matrix.t(),
        "strided": base[3:50:7],
        "block": matrix[1:4, 2:9:3],
        "expanded": torch.ones(1).expand(3, 4),
        "scalar": base[5],
        "empty": torch.zeros(0, 3),
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    }
    save_and_compare(file, views, _use_new_zipfile_serialization=zipped)
    read = read_torch_file(file)
    assert np.shares_memory(read["whole"], read["transposed"])


@FORMATS
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_containers_numbers_and_text_are_read(file, zipped, protocol):
    parameter = torch.nn.Parameter(torch.randn(3))
    parameter.note = "attributes are dropped"
    saved = {
        "parameter": parameter,
        "numbers": [1, -2, 300, 70000, 2**40, -(2**70), 1.5, True, None, 2.0 + 1.0j],
        "text": ("é", "x" * 300, b"\x00\xff", ""),
        "nested": {"size": torch.Size([2, 3]), 7: {1, 2, 3}, None: [[], {}, ()]},
        "shared": [[1, 2]] * 3,
    }
    torch.save(saved, file, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    check_equal(read_torch_file(file), saved)


@FORMATS
def test_the_state_of_a_training_run_is_read(file, zipped):
    module = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])
    scheduler_state = {
        key: value for key, value in scheduler.state_dict().items() if key != "_get_lr_called_within_step"
    }
    saved = {"model": module.state_dict(), "optimizer": optimizer.state_dict(), "scheduler": scheduler_state}
    save_and_compare(file, saved, _use_new_zipfile_serialization=zipped)


@pytest.mark.medium
@pytest.mark.skipif(not oracle.is_installed(), reason=oracle.MISSING)
@FORMATS
def test_every_family_is_read_bit_for_bit(tmp_path, zipped, monkeypatch):
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda *given: save(*given, _use_new_zipfile_serialization=zipped))
    state_dict = oracle.build(CONFIG).state_dict()
    oracle.write_family_a(tmp_path / "a", state_dict)
    oracle.write_family_b(tmp_path / "b", state_dict)
    oracle.write_family_c(tmp_path / "c", state_dict, CONFIG)
    oracle.write_family_c_in_three(tmp_path / "c3", state_dict, CONFIG)
    oracle.write_family_d(tmp_path / "d", oracle.build(V1).state_dict())
    files = [file for file in tmp_path.glob("*/*") if file.suffix in (".pt", ".bin", ".ckpt")]
    assert len(files) == 9
    for file in files:
        check_equal(read_torch_file(file), torch.load(file, weights_only=True))


def test_no_byte_is_read_from_a_record_with_a_wrong_checksum(file):
    torch.save({"x": torch.ones(64), "y": torch.zeros(64)}, file)
    data = bytearray(file.read_bytes())
    data[data.index(np.float32(1).tobytes() * 64) + 37] ^= 1
    file.write_bytes(data)
    assert error_of(file) == (
        "is damaged (the checksum of its record checkpoint/data/0 is wrong); download or copy it again"
    )


def test_a_file_written_without_checksums_is_read(file):
    torch.serialization.set_crc32_options(False)
    try:
        save_and_compare(file, {"x": torch.ones(64)})
    finally:
        torch.serialization.set_crc32_options(True)


def test_a_truncated_file_is_damaged(file):
    for zipped in (True, False):
        torch.save({"x": torch.ones(64)}, file, _use_new_zipfile_serialization=zipped)
        data = file.read_bytes()
        for length in (40, len(data) // 2, len(data) - 1):
            file.write_bytes(data[:length])
            assert error_of(file).startswith("is damaged (")


class _Call:
    def __reduce__(self):
        return eval, ("open('called', 'w')",)


@pytest.mark.parametrize(
    ("saved", "name"),
    [
        (_Call(), "__builtin__.eval"),
        ({"best": np.float64(3.0)}, "numpy._core.multiarray.scalar"),
        (Path("x"), f"{type(Path()).__module__}.PosixPath"),
        (torch.nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
        (torch.eye(2).to_sparse(), "torch._utils._rebuild_sparse_tensor"),
        (torch.empty(2, device="meta"), "torch._utils._rebuild_meta_tensor_no_storage"),
    ],
)
@FORMATS
def test_other_classes_are_refused_by_name(file, saved, name, zipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(saved, file, _use_new_zipfile_serialization=zipped)
    assert error_of(file) == (
        f"contains {name}, which is not unpickled (only tensors, numbers, text and containers are); save its state dict"
    )
    assert not (tmp_path / "called").exists()


def test_a_conjugated_view_is_refused(file):
    torch.save(torch.ones(2, dtype=torch.complex64).conj(), file)
    assert "contains a conjugated or negated view" in error_of(file)


def test_tensors_much_larger_than_their_file_are_refused(file):
    torch.save(torch.ones(1).expand(10**5, 10**5), file)
    assert "contains tensors that take more than 8 times the size of the file" in error_of(file)


def test_the_error_names_the_kind_of_a_file_that_is_not_a_checkpoint(file):
    for content, message in (
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "is a Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "is a web page"),
        (b"", "is empty"),
        ((17).to_bytes(8, "little") + b'{"__metadata__":{', "is a safetensors file"),
        (b"\x80\x04K\x01.", "is a PyTorch file of an unsupported kind"),
        (b"noise", "is damaged, or not a PyTorch file"),
    ):
        file.write_bytes(content)
        assert message in error_of(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("program/data.pkl", b"")
        archive.writestr("program/constants.pkl", b"")
    assert "is a TorchScript program" in error_of(file)


def test_a_compressed_or_foreign_zip_file_is_refused(file, tmp_path):
    torch.save({"x": torch.ones(9)}, tmp_path / "stored.pt")
    shutil.unpack_archive(tmp_path / "stored.pt", tmp_path / "records", "zip")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for record in (tmp_path / "records" / "stored").rglob("*"):
            archive.write(record, record.relative_to(tmp_path / "records"))
    assert "in compressed form, which is not supported" in error_of(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "is a zip file, but not one of torch.save" in error_of(file)


@pytest.mark.medium
def test_a_checkpoint_is_converted_where_torch_cannot_be_imported(tmp_path):
    if not oracle.is_installed():
        pytest.skip(oracle.MISSING)
    oracle.write_family_a(tmp_path / "official", oracle.build(CONFIG).state_dict())
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from mossformer_jax.cli import main\n"
        "sys.exit(main(['convert', '--input', sys.argv[1], '--output', sys.argv[2]]))"
    )
    arguments = [sys.executable, "-c", program, tmp_path / "official", tmp_path / "ours"]
    ran = subprocess.run(arguments, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "family A" in ran.stdout
