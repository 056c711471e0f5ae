"""Tasks: commands of ew's own that a supervisor runs in the background, for operators over HTTP.

Each has a directory, `<state>/tasks/ID/`: its record, which only the supervisor writes;
`result.json`, which the command writes, as far as it is; and `log`, with all else that it says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import msgspec

from contract.messages import UNREADABLE
from contract.paths import state_dir

_ID: Final = re.compile(r"(bench|pull|estimate)-[0-9a-f]{12}")
_TAIL_BYTES: Final = 8192
TaskKind: TypeAlias = Literal["bench", "pull", "estimate"]
#: `lost`: its supervisor ended before it did.
TaskState: TypeAlias = Literal["running", "done", "failed", "cancelled", "lost"]


class BenchTask(msgspec.Struct, frozen=True, tag="bench"):
    """`ew bench`: a run of `seconds` for each number of `streams`. Its result is the JSON of
    `--json`."""

    model: str
    streams: tuple[int, ...] = (1, 4, 16, 64)
    seconds: float = 10.0
    tokens: int = 128
    prompt_words: int = 100


class PullTask(msgspec.Struct, frozen=True, tag="pull"):
    """`ew models pull`, of a model or a repository. It has no result."""

    model: str


class EstimateTask(msgspec.Struct, frozen=True, tag="estimate"):
    """`ew estimate`, of one model or repository. Its result is the JSON of `--json`."""

    model: str


Task: TypeAlias = BenchTask | PullTask | EstimateTask


class TaskRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A task. `remark` says why it was ended, if its command does not."""

    id: str
    task: Task
    began_unix_s: float
    state: TaskState = "running"
    ended_unix_s: float | None = None
    remark: str = ""

    @property
    def kind(self) -> TaskKind:
        """Its kind, which its id begins with."""
        return self.id.partition("-")[0]  # type: ignore[return-value] # ids have this form


_decode = msgspec.json.Decoder(TaskRecord).decode


def tasks_dir() -> Path:
    return state_dir() / "tasks"


def read_tasks() -> Iterator[TaskRecord]:
    """Return the tasks that are kept, the newest first."""
    found = filter(None, (find_task(path.name) for path in tasks_dir().glob("*-*")))
    return iter(sorted(found, key=lambda each: (each.began_unix_s, each.id), reverse=True))


def find_task(task_id: str) -> TaskRecord | None:
    """Return a task; None if it is not kept, or its record cannot be understood."""
    if not _ID.fullmatch(task_id):
        return None
    try:
        return _decode((tasks_dir() / task_id / "record.json").read_bytes())
    except (OSError, *UNREADABLE):
        return None


def task_result(task_id: str) -> Any:
    """Return the result of a task that `find_task` found, as far as there is one; else None."""
    try:
        return msgspec.json.decode((tasks_dir() / task_id / "result.json").read_bytes())
    except (OSError, *UNREADABLE):
        return None


def task_log(task_id: str, lines: int) -> list[str]:
    """Return the last lines of the log of a task that `find_task` found."""
    try:
        with (tasks_dir() / task_id / "log").open("rb") as log:
            log.seek(max(0, log.seek(0, 2) - _TAIL_BYTES))
            text = log.read().decode(errors="replace")
    except OSError:
        return []
    return text.splitlines()[-lines:]
