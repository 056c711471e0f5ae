"""The bounds of what one key may have on the disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from contract.config import FilesConfig
from gateway.batches import batch as batches_module
from gateway.batches import file_store
from gateway.batches.batch import BatchRecord, BatchStatus, BatchStore, TooManyBatches, new_batch_id
from gateway.batches.file_store import (
    FileRecord,
    FileStore,
    StoreFull,
    Upload,
    new_file_id,
)

MIB = 1 << 20


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_store, "_STEP", MIB)


def write_until_full(uploads: list[Upload]) -> None:
    """Write to all in turn, until none may grow."""
    growing = list(uploads)
    while growing:
        for upload in list(growing):
            try:
                upload.write(bytes(MIB // 4))
            except StoreFull:
                growing.remove(upload)


def written(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir())


def test_uploads_under_way_count_within_what_a_key_may_have(tmp_path: Path) -> None:
    config = FilesConfig(max_file_bytes=8 * MIB, max_bytes_per_key=10 * MIB, max_bytes=24 * MIB)
    store = FileStore(tmp_path, config)
    done = store.begin("one")
    done.write(bytes(3 * MIB))
    done.finish("a", "batch", 3600)
    uploads = [store.begin("one") for _ in range(6)]
    write_until_full(uploads)
    assert 4 * MIB < written(tmp_path) <= 10 * MIB + 1000
    other = store.begin("two")
    other.write(bytes(2 * MIB))
    assert other.finish("b", "batch", 3600).bytes == 2 * MIB
    uploads += [store.begin(f"key{n}") for n in range(20)]
    write_until_full(uploads)
    assert written(tmp_path) <= 24 * MIB + 1000
    for upload in uploads:
        upload.abandon()
    whole = store.begin("one")
    whole.write(bytes(7 * MIB))
    assert whole.finish("c", "batch", 3600).bytes == 7 * MIB


def test_a_key_may_have_so_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_store, "_MOST_FILES", 3)
    store = FileStore(tmp_path, FilesConfig())
    for _ in range(3):
        store.begin("one").finish("a", "batch", 3600)
    fourth = store.begin("one")
    with pytest.raises(StoreFull, match="3 files"):
        fourth.finish("a", "batch", 3600)
    fourth.abandon()
    store.begin("two").finish("a", "batch", 3600)


def test_a_key_may_have_so_many_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches_module, "_MOST_OPEN", 2)
    monkeypatch.setattr(batches_module, "_MOST_ENDED", 3)
    store = BatchStore(tmp_path)

    def create(key: str, at: int) -> BatchRecord:
        new = BatchRecord(new_batch_id(), key, "/v1/embeddings", "file-", "24h", at, at, 1)
        store.create(new)
        return new

    for at in range(10):
        store.write(replace(create("one", at), status=BatchStatus.FAILED, ended_at=at))
    assert [each.created_at for each in store.all()] == [9, 8, 7, 6]
    create("one", 10)
    create("one", 11)
    with pytest.raises(TooManyBatches):
        create("one", 12)
    create("two", 12)


def test_a_file_is_taken_from_another_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_on_disk = Path.replace

    def replace_path(path: Path, target: Path) -> Path:
        if path.parent != target.parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return replace_on_disk(path, target)

    monkeypatch.setattr(Path, "replace", replace_path)
    store, made = FileStore(tmp_path / "files", FilesConfig()), tmp_path / "output.jsonl"
    made.write_bytes(b"{}\n")
    record = FileRecord(new_file_id(), "one", "a", "batch_output", 3, 1, 2**33)
    for _ in range(2):
        store.take(made, record)
    assert store.path(record.id).read_bytes() == b"{}\n"
    assert store.path(record.id).stat().st_mode & 0o777 == 0o600
    assert store.of_key("one") == [record]
    assert not made.exists()
    assert len([*(tmp_path / "files").iterdir()]) == 2


def test_an_upload_that_the_disk_has_no_room_for_leaves_nothing(tmp_path: Path) -> None:
    store = FileStore(tmp_path, FilesConfig())
    upload = store.begin("one")
    upload.write(b"x")
    # The bytes still in its buffer cannot be written any more.
    descriptor = upload._file.fileno()
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, descriptor)
    os.close(full)
    upload.abandon()
    assert [*tmp_path.iterdir()] == []


def test_a_batch_that_the_disk_has_no_room_for_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(path: Path, data: bytes) -> int:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write)
    new = BatchRecord(new_batch_id(), "one", "/v1/embeddings", "file-", "24h", 1, 1, 1)
    with pytest.raises(OSError, match="No space"):
        BatchStore(tmp_path).create(new)
    assert [*tmp_path.iterdir()] == []
