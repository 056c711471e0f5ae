"""`./ew dead`: requests that were given up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contract.bus.background import BackgroundJobs
from contract.bus.claims import BeginRefused, Ended
from contract.bus.client import RedisClient, connect
from contract.bus.queue import MAX_ATTEMPTS, JobQueue
from contract.bus.records.worker_ends import GpuAtEnd, WorkerEnd, WorkerEnds
from contract.endings import LETTER_DAYS
from orchestrator.config.key_file import KeyFile
from tests.conftest import ValkeyServer
from tests.contract.queue_workers import begin, lose, put, serve
from tests.orchestrator.conftest import Host, Terminal


def ask(server: ValkeyServer, work: Callable[[RedisClient], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        db = connect(server.url)
        try:
            return await work(db)
        finally:
            await db.aclose()

    return asyncio.run(run())


async def break_workers(db: RedisClient) -> None:
    """Two requests of model `m` break every worker; a third entry is no job."""
    queue = JobQueue(db, "m")
    await queue.open()
    await serve(queue)
    for job_id in ("a", "b"):
        await put(queue, job_id)
        await begin(queue, db, f"{job_id}0")
        for n in range(MAX_ATTEMPTS):
            (begun,) = await lose(queue, f"{job_id}{n}", f"{job_id}{n + 1}")
        assert isinstance(begun, BeginRefused)
        last = f"{job_id}{MAX_ATTEMPTS}"
        await queue.complete(last, [Ended(begun.attempt, "failed")])
    gpu = GpuAtEnd(0, "H100", 81559, 70000, reserved_mib=64000, worker_mib=66000, foreign_mib=3000)
    end = WorkerEnd("a1", "h2", 1.0, "m-0 was killed by SIGKILL", exit_code=-9, gpus=(gpu,))
    await WorkerEnds(db, "m").note(end, LETTER_DAYS)
    await db.xadd(queue.key, {"job": b"?"})
    await begin(queue, db, "c")


def test_what_broke_its_workers_is_listed_shown_replayed_and_dropped(
    host: Host, terminal: Terminal, own_valkey: ValkeyServer
) -> None:
    terminal.configure(m={})
    redis = {"EW_REDIS__URL": own_valkey.url}
    assert "no request was given up" in terminal.run("dead", "list", **redis).err
    KeyFile().add("alice", ("*",), None)
    ask(own_valkey, break_workers)
    listed = json.loads(terminal.run("dead", "list", "--json", **redis).out)
    assert [each["reason"] for each in listed] == ["unreadable", "poison", "poison"]
    assert [each["id"] for each in listed[1:]] == ["b", "a"]
    assert "poison" in terminal.run("dead", "list", **redis).out
    logs = Path(terminal.environment.get("EW_LOGS", terminal.state / "logs"))
    logs.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    lines = [f"{now} INFO    {worker} x: {n}\n" for worker in ("a0", "b0") for n in range(7)]
    (logs / "m-0.log").write_text("".join(lines))
    (logs / "supervisor.log").write_text(f"{now} INFO    supervisor y: m-0 starts as a1, pid 7\n")
    shown = terminal.run("dead", "show", "a", **redis).out
    assert [line.split()[-1] for line in shown.splitlines() if " a0 x: " in line] == list("23456")
    assert "starts as a1" in shown
    assert "b0" not in shown
    assert "a1 on h2" in shown
    assert "m-0 was killed by SIGKILL" in shown
    assert "70000 of 81559 MiB in use" in shown
    (end,) = json.loads(terminal.run("dead", "show", "a", "--json", **redis).out)["ends"]
    assert (end["worker"], end["exit_code"], end["gpus"][0]["foreign_mib"]) == ("a1", -9, 3000)
    assert "a0, a1, a2" in shown
    assert "hello" not in shown, "a prompt is shown"
    replayed = terminal.run("dead", "replay", "a", **redis)
    job_id = next(word for word in replayed.err.split() if word.startswith("job_"))
    record = ask(own_valkey, lambda db: BackgroundJobs(db, 2**26).find(job_id))
    assert (record.job.prompt, record.keeper, record.job.resumable) == ("hello", "", True)
    assert "no dead letter `a`" in terminal.run("dead", "replay", "a", **redis).err
    unreadable = listed[0]["id"]
    assert "cannot be read" in terminal.run("dead", "replay", unreadable, **redis).err
    for letter in (unreadable, "b"):
        assert terminal.run("dead", "drop", letter, **redis).code == 0
    assert json.loads(terminal.run("dead", "list", "--json", **redis).out) == []
