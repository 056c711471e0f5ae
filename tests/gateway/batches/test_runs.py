"""One batch over what may happen to its files, with answers by hand."""

from __future__ import annotations

import asyncio
import errno
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from contract.config import FilesConfig
from contract.process.tasks import cancel_and_wait
from gateway.batches import asker as asker_module
from gateway.batches import batch_output, input_file, run
from gateway.batches.asker import LineAnswer, LineAsker
from gateway.batches.batch import BatchRecord, BatchStatus, BatchStore, BatchWindow, new_batch_id
from gateway.batches.done_lines import DoneLines
from gateway.batches.file_store import FileStore
from gateway.batches.input_file import InputLine
from gateway.batches.output_file import OutputFile
from gateway.batches.run import BatchRun
from gateway.batches.runner import BatchRunner, next_batches
from tests.waiting import until

CHAT = "/v1/chat/completions"
LINES = 6


class Asker:
    """Answers a line when it is let."""

    most_at_once = LINES
    window = SimpleNamespace(left_s=3600.0)

    def __init__(self) -> None:
        self.may_answer = [asyncio.Event() for _ in range(LINES + 1)]
        self.asked: list[int] = []
        self._cancelled = asyncio.Event()

    async def ask(self, line: InputLine) -> LineAnswer:
        self.asked.append(line.number)
        waits = [self.may_answer[line.number].wait(), self._cancelled.wait()]
        tasks = [asyncio.ensure_future(each) for each in waits]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        is_answered = self.may_answer[line.number].is_set()
        return LineAnswer(200 if is_answered else 503, f"r{line.number}", b"{}")

    def cancel(self) -> None:
        self._cancelled.set()

    def answer(self, *numbers: int) -> None:
        for number in numbers:
            self.may_answer[number].set()


class Host:
    """The files and batches of one host, with a batch in them."""

    def __init__(self, directory: Path) -> None:
        self.files = FileStore(directory / "files", FilesConfig())
        self.batches = BatchStore(directory / "batches")
        upload = self.files.begin("k")
        for number in range(1, LINES + 1):
            line = {"custom_id": f"r{number}", "method": "POST", "url": CHAT, "body": {}}
            upload.write(json.dumps(line).encode() + b"\n")
        file = upload.finish("in.jsonl", "batch", 3600)
        self.id = new_batch_id()
        times = (1_000, 2**33, 3600)
        self.batches.create(BatchRecord(self.id, "k", CHAT, file.id, "24h", *times))

    @property
    def output(self) -> Path:
        return self.batches.path(self.id) / "output.jsonl"

    def found(self) -> BatchRecord:
        record = self.batches.find(self.id)
        assert record is not None
        return record

    def begin(self, asker: Asker) -> asyncio.Task[None]:
        given: Any = asker
        batch = BatchRun(self.files, self.batches, self.found(), given, 10_000)
        return asyncio.create_task(batch.run())

    def lines(self, file_id: str | None) -> dict[str, Any]:
        """Return what a file has, by its custom ids, each once."""
        lines = self.files.path(file_id).read_text().splitlines() if file_id else []
        told = [json.loads(line) for line in lines]
        found = {each["custom_id"]: each for each in told}
        assert len(found) == len(told)
        return found


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(run, "_LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(batch_output, "_DISK_RETRY_S", 0.02)
    return Host(tmp_path)


async def test_an_output_that_is_deleted_is_made_again(host: Host) -> None:
    first = Asker()
    running = host.begin(first)
    first.answer(1, 2)
    await until(lambda: host.found().completed == 2)
    host.output.unlink()
    with pytest.raises(OSError, match=r"deleted while the batch ran: .*output\.jsonl"):
        await asyncio.wait_for(running, 20)
    second = Asker()
    second.answer(*range(1, LINES + 1))
    await asyncio.wait_for(host.begin(second), 20)
    assert second.asked == [*range(1, LINES + 1)]
    done = host.found()
    assert (done.status, done.completed) == (BatchStatus.COMPLETED, LINES)
    assert len(host.lines(done.output_file_id)) == LINES


async def test_no_two_runs_write_one_output(host: Host) -> None:
    first, second = Asker(), Asker()
    running = host.begin(first)
    await until(lambda: len(first.asked) == LINES)
    with pytest.raises(OSError, match="another process writes it"):
        await asyncio.wait_for(host.begin(second), 20)
    assert second.asked == []
    first.answer(*range(1, LINES + 1))
    await asyncio.wait_for(running, 20)
    assert host.found().completed == LINES


async def test_what_was_answered_before_a_cancellation_is_written_when_the_disk_has_room(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_full, refused = True, 0
    append = OutputFile.append

    def append_if_room(file: OutputFile, line: bytes) -> None:
        nonlocal refused
        if is_full:
            refused += 1
            raise OSError(errno.ENOSPC, "no space left")
        append(file, line)

    monkeypatch.setattr(OutputFile, "append", append_if_room)
    asker = Asker()
    running = host.begin(asker)
    asker.answer(1, 2, 3)
    await until(lambda: refused > 2)
    host.batches.cancel(host.id)
    seen = refused
    await until(lambda: refused > seen + 5)
    assert not running.done()
    is_full = False
    await asyncio.wait_for(running, 20)
    done = host.found()
    assert (done.status, done.completed, done.failed) == (BatchStatus.CANCELLED, 3, LINES - 3)
    assert {*host.lines(done.output_file_id)} == {"r1", "r2", "r3"}
    codes = {each["error"]["code"] for each in host.lines(done.error_file_id).values()}
    assert codes == {"batch_cancelled"}


async def test_what_a_large_batch_needs_of_the_disk_does_not_hold_up_the_loop(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it is taken up again: its output is read, and the input passed over up to there."""
    first = Asker()
    running = host.begin(first)
    first.answer(1, 2, 3)
    await until(lambda: host.found().completed == 3)
    await cancel_and_wait([running])
    of_loop = {"read": False, "synced": False}

    def note(what: str, do: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any) -> Any:
            of_loop[what] |= threading.current_thread() is threading.main_thread()
            return do(*args)

        return noted

    monkeypatch.setattr(OutputFile, "_mark", note("read", OutputFile._mark))
    monkeypatch.setattr(OutputFile, "sync", note("synced", OutputFile.sync))
    monkeypatch.setattr(input_file, "_AT_ONCE", 1)
    slept = asyncio.sleep
    turns: list[int] = []

    async def sleep(seconds: float) -> None:
        turns.extend([len(second.asked)] if seconds == 0 else [])
        await slept(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    second = Asker()
    second.answer(*range(1, LINES + 1))
    await asyncio.wait_for(host.begin(second), 20)
    assert second.asked == [4, 5, 6]
    assert turns.count(0) >= 3, "the loop turned while three lines were passed over"
    assert not any(of_loop.values()), of_loop


@pytest.mark.parametrize("by_s", [86_400, -86_400])
def test_a_clock_that_is_set_does_not_move_the_end_of_a_batch_that_runs(
    host: Host, monkeypatch: pytest.MonkeyPatch, by_s: int
) -> None:
    record = msgspec.structs.replace(host.found(), expires_at=int(time.time()) + 600)
    window, set_to = BatchWindow(record), time.time() + by_s
    monkeypatch.setattr(time, "time", lambda: set_to)
    assert 500 < window.left_s <= 600


def test_a_file_that_cannot_be_read_for_now_is_kept(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file,) = host.files.of_key("k")

    def refused(path: Path) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refused)
        assert host.files.find(file.id) is None
        host.files.tidy()
    assert host.files.find(file.id) == file


async def test_a_progress_that_could_not_be_written_is_written_later(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_full, refused = False, 0
    write = BatchStore.write

    def write_if_room(store: BatchStore, batch: BatchRecord) -> None:
        nonlocal refused
        if is_full:
            refused += 1
            raise OSError(errno.ENOSPC, "no space left")
        write(store, batch)

    monkeypatch.setattr(BatchStore, "write", write_if_room)
    asker = Asker()
    running = host.begin(asker)
    await until(lambda: len(asker.asked) == LINES)
    is_full = True
    asker.answer(1)
    await until(lambda: refused)
    is_full = False
    await until(lambda: host.found().completed == 1)
    asker.answer(*range(2, LINES + 1))
    await asyncio.wait_for(running, 20)


async def test_a_lock_that_is_deleted_leaves_one_process_that_runs_batches(host: Host) -> None:
    host.batches.write(msgspec.structs.replace(host.found(), status=BatchStatus.FAILED))
    process: Any = SimpleNamespace(dispatcher=SimpleNamespace(draining=False))
    first, second = (BatchRunner(process, host.files, host.batches, {}) for _ in range(2))
    lock = host.batches.directory / "lock"

    def locks() -> int:
        """Return how many locks are held, also on a file that was deleted."""
        opened = [each for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
        return sum(str(each.readlink()).removesuffix(" (deleted)") == str(lock) for each in opened)

    await first._look()
    await second._look()
    assert locks() == 1
    lock.unlink()
    await second._look()
    assert locks() == 2, "both have one, of two files"
    await first._look()
    assert locks() == 1
    await second._leave()
    assert locks() == 0


def batch(number: int, key: str) -> BatchRecord:
    return BatchRecord(f"batch_{number}", key, CHAT, "file-", "24h", number, 2**33, 1)


def test_a_key_does_not_wait_for_the_batches_of_another() -> None:
    busy = [batch(number, "busy") for number in range(1, 10)]
    assert [each.created_at for each in next_batches(busy, set(), set())] == [1, 2, 3, 4]
    running = {each.id for each in busy[:4]}
    assert next_batches(busy, running, running) == []
    others = [batch(20, "late"), batch(21, "late"), batch(22, "later")]
    assert [each.created_at for each in next_batches([*busy, *others], running, running)] == [
        20,
        22,
        21,
    ]
    many = [batch(number, f"k{number}") for number in range(100, 200)]
    assert len(next_batches([*busy, *many], running, running)) == 28


def test_no_batch_waits_for_those_that_wait_themselves() -> None:
    stuck = [batch(number, f"k{number % 40}") for number in range(100)]
    late, again = batch(1_000, "late"), batch(1_001, "k3")
    running = {each.id for each in stuck}
    assert next_batches([*stuck, late], running, running) == []
    assert next_batches([*stuck, late, again], running, set()) == [late, again]
    for most, keys in ((16, 1), (256, 20)):
        many = [batch(number, f"k{number % keys}") for number in range(most + 40)]
        running = {each.id for each in many[:most]}
        assert next_batches(many, running, set()) == []
        assert next_batches([*many, late], running, set()) == [late], "its key has none"


async def test_a_batch_waits_while_none_of_its_lines_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asker_module, "_WAITS_AFTER_S", 0.02)
    given: Any = SimpleNamespace(id="batch_1")
    asker, held = LineAsker(given, given, given, given, list), asyncio.Event()

    async def answer(line: InputLine, job_id: str) -> bytes:
        await held.wait()
        return b""

    monkeypatch.setattr(asker, "_answer", answer)
    assert not asker.waits, "nothing is asked: its input is checked, or its answers are written"
    asked = asyncio.create_task(asker.ask(InputLine(1, "r1", b"{}")))
    await until(lambda: asker.waits)
    reply: Any = SimpleNamespace(first_attempt=7)
    asker._replies["j"] = reply
    assert not asker.waits, "a worker has begun one"
    del asker._replies["j"]
    held.set()
    await asked
    assert not asker.waits


def test_lines_that_are_asked_at_once_are_shared_by_the_batches_for_the_same_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asker_module, "_LOOK_EVERY_S", 0)
    workers = [SimpleNamespace(slots=40), SimpleNamespace(slots=40)]
    models = SimpleNamespace(status=lambda _: SimpleNamespace(workers=workers))
    process: Any = SimpleNamespace(models=models)
    given: Any = None
    askers: list[LineAsker] = []
    for model in ("a", "b", "b", "b", "b"):
        asker = LineAsker(process, given, given, given, lambda: askers)
        assert asker.most_at_once == 8, "its model is not known yet"
        asker._replies["x"] = SimpleNamespace(model=model)  # type: ignore[assignment]
        askers.append(asker)
    found = [asker.most_at_once for asker in [*askers, *askers]][-5:]
    assert found == [160, 40, 40, 40, 40]


def test_batches_that_have_ended_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(tmp_path)
    assert [each.id for each in host.batches.open()] == [host.id]
    host.batches.write(msgspec.structs.replace(host.found(), status=BatchStatus.FAILED))
    assert host.batches.open() == []
    monkeypatch.setattr(BatchStore, "find", lambda *_: pytest.fail("it is read again"))
    assert host.batches.open() == []


def test_a_line_is_one_for_all_readers_of_lines(tmp_path: Path) -> None:
    """Also for those that end lines wherever Unicode does."""
    said = "a\u2028b\x85c"
    output = OutputFile(tmp_path / "output.jsonl", DoneLines())
    output.append(json.dumps({"said": said}, ensure_ascii=False).encode())
    output.close()
    (line,) = (tmp_path / "output.jsonl").read_text().splitlines()
    assert json.loads(line) == {"said": said}
