"""Every writer where there is no room: one message with the place and the bytes, and what was there before is whole."""

import errno
import os
import random
import re
import resource
import subprocess
import sys
import textwrap

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from tests.tract_core.base.test_tables import cot_row
from tract_core.base import tables
from tract_core.base.errors import DiskFullError, UserError
from tract_core.generate.store import Store
from tract_core.model import models
from tract_core.model.models import SeedModel
from tract_core.train import checkpoints

BIG = torch.arange(200_000)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    refused = subprocess.run(mount, capture_output=True, text=True)
    if refused.returncode:
        pytest.skip(f"mounting a tmpfs needs root: {refused.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def filled_table(folder):
    rows = [cot_row(id=str(number), cot=os.urandom(400).hex()) for number in range(1000)]
    tables.write(folder / "table", "cots", rows, {})


def filled_text(folder):
    tables.write_text(folder / "text", "x" * 10**6)


def filled_json(folder):
    tables.write_json(folder / "file.json", {"text": "x" * 10**6})


def filled_csv(folder):
    tables.write_csv(folder / "file.csv", [{"text": "x" * 10**6}])


def filled_file(folder):
    with tables.atomic_file(folder / "file.parquet") as draft:
        pq.write_table(pa.table({"numbers": BIG.numpy()}), draft, compression="none")


def filled_safetensors(folder):
    with tables.atomic_folder(folder / "adapter") as draft:
        save_file({"a": BIG}, draft / "a.safetensors")


def filled_torch(folder):
    with tables.atomic_folder(folder / "state") as draft:
        torch.save({"a": BIG}, draft / "state.pt")


def filled_store(folder):
    store = Store({"a": 1}, folder)
    with store.held():
        store.add({"name": {"cot": random.Random(0).randbytes(10**6).hex()}})


WRITERS = [
    filled_table,
    filled_text,
    filled_json,
    filled_csv,
    filled_file,
    filled_safetensors,
    filled_torch,
    filled_store,
]


@pytest.mark.parametrize("write", WRITERS)
def test_a_disk_that_is_full_is_named_with_the_bytes_and_nothing_is_left(small_disk, write, record_property):
    record_property("faults_injected", 1)
    (small_disk / "before").write_text("whole")
    with pytest.raises(DiskFullError, match=r"the disk or its quota is full; .* at least [\d,]+ bytes") as error:
        write(small_disk)
    assert str(error.value).startswith(str(small_disk))
    files = {path.name for path in small_disk.rglob("*") if path.is_file() and path.suffix != ".lock"}
    assert files == {"before"}
    if write in (filled_text, filled_json, filled_csv, filled_store):
        assert int(re.search(r"at least ([\d,]+)", str(error.value))[1].replace(",", "")) >= 10**6


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_what_stood_there_before_stays(tmp_path, number, monkeypatch, record_property):
    record_property("faults_injected", 2)
    tables.write(tmp_path / "table", "cots", [cot_row()], {"version": 1})
    tables.write_text(tmp_path / "text", "first")
    before = tables.manifest_hash(tmp_path / "table")

    def full(file):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match=f"{tmp_path / 'table'}: the disk or its quota is full"):
        tables.write(tmp_path / "table", "cots", [cot_row()], {"version": 2})
    with pytest.raises(DiskFullError, match=f"{tmp_path / 'text'}: the disk or its quota is full"):
        tables.write_text(tmp_path / "text", "second")
    assert tables.manifest_hash(tmp_path / "table") == before
    tables.verify_manifest(tmp_path / "table")
    assert (tmp_path / "text").read_text() == "first"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table", "text"]


@pytest.mark.parametrize("write", WRITERS)
def test_a_file_that_would_be_larger_than_the_system_allows_is_named(tmp_path, write, record_property):
    record_property("faults_injected", 1)
    folder = tmp_path / "disk"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(UserError, match=r"/disk/.*may not become this large here; raise `ulimit -f`") as error:
            write(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not isinstance(error.value, DiskFullError)
    assert [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"] == []


def test_another_error_of_the_system_is_no_full_disk(tmp_path):
    with pytest.raises(PermissionError), tables.atomic_folder(tmp_path / "a"):
        raise PermissionError(errno.EACCES, "Permission denied")


def test_a_checkpoint_that_torch_cannot_write_keeps_the_one_before(small_disk, record_property):
    """torch's own error says nothing of a disk: "unexpected pos 576 vs 534"."""
    record_property("faults_injected", 1)
    with checkpoints.opened(small_disk, {"a": 1}) as store:
        with store.draft(1) as folder:
            torch.save({"a": torch.zeros(10)}, folder / "state.pt")
        with (
            pytest.raises(UserError, match=r"full at the checkpoint of step 2; earlier .* at least [\d,]+ bytes"),
            store.draft(2) as folder,
        ):
            torch.save({"a": BIG}, folder / "state.pt")
        assert store.newest() == store.folder / "step_00000001"


def test_a_merged_model_without_room_says_how_much_it_needs(tiny_folder, small_disk, monkeypatch, record_property):
    record_property("faults_injected", 1)
    monkeypatch.setattr(models, "load_merged", lambda seed, adapter, dtype: models.load_model(seed, dtype))
    seed_model = SeedModel(folder=tiny_folder, identity="tiny")
    with (
        pytest.raises(DiskFullError, match=r"at least [\d,]{7,} bytes"),
        models.merged_folder(seed_model, "adapter", "float32", small_disk),
    ):
        pass
    assert list(small_disk.iterdir()) == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("tables.write_text('text', 'x' * 10**6)", r"text: the disk or its quota is full; .* at least 1,000,000 bytes"),
        ("raise OSError(28, 'No space left on device', 'cache')", r"cache: the disk or its quota is full"),
    ],
)
def test_a_stage_ends_with_2_where_the_disk_is_full(small_disk, body, message, record_property):
    record_property("faults_injected", 1)
    script = f"""
        import os
        from tract_core.base import process
        from tract_core.base import tables
        os.chdir({str(small_disk)!r})
        def main():
            {body}
        process.run(main)
    """
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert result.returncode == 2
    assert re.search(message, result.stderr)
    assert "Traceback" not in result.stderr
