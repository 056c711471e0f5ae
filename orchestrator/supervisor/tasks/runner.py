"""Runs tasks: each is one process, which ends with the supervisor."""

from __future__ import annotations

import asyncio
import logging
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import replace

from contract.paths import make_private
from contract.supervision.tasks import Task, TaskKind, TaskRecord, read_tasks, tasks_dir
from orchestrator.errors import UserError
from orchestrator.supervisor.tasks.commands import AT_ONCE, command_of, kind_of, longest_s
from orchestrator.system.files import write_atomically
from orchestrator.system.process import Process, spawn
from orchestrator.system.reaper import Reaper

log = logging.getLogger(__name__)
#: Of each kind; the oldest are forgotten.
_KEPT: Final = 20
#: A command that was interrupted has so long to put its things in order.
_PATIENCE_S: Final = 10.0


class TaskExited(NamedTuple):
    """The process of a task has ended."""

    task_id: str


class _Running:
    """A task whose process runs, and what is to happen to it."""

    def __init__(self, record: TaskRecord, process: Process) -> None:
        self.record = record
        self.process = process
        self.timers: list[asyncio.TimerHandle] = []


class TaskRunner:
    """The tasks of this host. `on_exit` is called from the event loop when a process has ended;
    `exited` is to be called then."""

    def __init__(self, reaper: Reaper, on_exit: Callable[[TaskExited], None]) -> None:
        self._reaper = reaper
        self._on_exit = on_exit
        self._running: dict[str, _Running] = {}

    def begin(self, task: Task, variables: Mapping[str, str]) -> str:
        """Begin a task. Returns its id. Raises `UserError` if as many of its kind run as may, and
        `OSError`."""
        kind = kind_of(task)
        at_work = [each for each in self._running.values() if each.record.kind == kind]
        if len(at_work) >= AT_ONCE[kind]:
            raise UserError(
                f"{len(at_work)} `{kind}` at once are the most, and {at_work[0].record.id} runs",
                "wait for its end, or cancel it",
            )
        record = TaskRecord(f"{kind}-{secrets.token_hex(6)}", task, time.time())
        directory = tasks_dir() / record.id
        make_private(directory)
        _write(record)
        command = command_of(task, directory, variables)
        process = spawn(command, directory / "log", self._reaper)
        running = self._running[record.id] = _Running(record, process)
        process.watch(partial(self._on_exit, TaskExited(record.id)))
        if (limit_s := longest_s(task)) is not None:
            remark = f"it took longer than {limit_s:.0f} s"
            timer = asyncio.get_running_loop().call_later(limit_s, self._end, running, remark)
            running.timers.append(timer)
        log.info("task %s begins, pid %d", record.id, process.pid)
        self._forget_old(kind)
        return record.id

    def cancel(self, task_id: str) -> None:
        """Have a task ended. Raises `UserError` if it does not run."""
        running = self._running.get(task_id)
        if running is None:
            raise UserError(f"no task `{task_id}` runs", "it may have ended")
        running.record = replace(running.record, state="cancelled")
        self._end(running, "")

    def cancel_all(self) -> None:
        """Have all tasks ended: the supervisor is about to."""
        for task_id in self._running:
            self.cancel(task_id)

    def exited(self, event: TaskExited) -> None:
        """Write down how a task has ended, and leave nothing of it running."""
        running = self._running.pop(event.task_id)
        for timer in running.timers:
            timer.cancel()
        code = self._reaper.exit_code(running.process.pid)
        running.process.sweep()
        running.process.close()
        record = running.record
        if record.state == "running":
            is_good = code == 0 and not record.remark
            record = replace(record, state="done" if is_good else "failed")
        log.info("task %s is %s, exit code %s", record.id, record.state, code)
        _write(replace(record, ended_unix_s=time.time()))

    def end(self) -> None:
        """Note the end of those whose processes were ended with everything else."""
        for running in self._running.values():
            _write(replace(running.record, ended_unix_s=time.time()))

    def give_up_lost(self) -> None:
        """Mark what a former supervisor left: its processes were ended with it."""
        for record in read_tasks():
            if record.state == "running" and record.id not in self._running:
                _write(replace(record, state="lost", remark="the supervisor was ended"))

    def _end(self, running: _Running, remark: str) -> None:
        if remark:
            running.record = replace(running.record, remark=remark)
        running.process.interrupt()
        loop = asyncio.get_running_loop()
        running.timers.append(loop.call_later(_PATIENCE_S, running.process.kill))

    def _forget_old(self, kind: TaskKind) -> None:
        of_kind = [each for each in read_tasks() if each.kind == kind]
        for record in of_kind[_KEPT:]:
            if record.id not in self._running:
                shutil.rmtree(tasks_dir() / record.id, ignore_errors=True)


def _write(record: TaskRecord) -> None:
    """A full disk is logged; the task goes on."""
    try:
        write_atomically(tasks_dir() / record.id / "record.json", msgspec.json.encode(record))
    except OSError as error:
        log.error("the record of %s cannot be written: %s", record.id, error)
