"""Talking with the supervisor of this host: JSON lines over a unix socket that only its user can
open.

One request per connection; answers follow until `Finished` or `Refused`. These are the messages
that the gateway sends, too; those of commands alone are in `orchestrator/protocol/control.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from contract.asked import PriorityClass
from contract.messages import State
from contract.paths import run_dir
from contract.supervision.problem import Problem
from contract.supervision.tasks import Task


class Load(msgspec.Struct, frozen=True, tag="load"):
    """Load a model that loads on demand, and answer when it is ready or has failed."""

    model: str


class Unload(msgspec.Struct, frozen=True, tag="unload"):
    """Unload such a model until it is asked for again, and answer when it is gone."""

    model: str


class Pin(msgspec.Struct, frozen=True, tag="pin"):
    """Never unload such a model for another, or (`is_pinned` false) do again."""

    model: str
    is_pinned: bool


class RestartModels(msgspec.Struct, frozen=True, tag="restart_models"):
    """Replace the workers of these models, and with `gateway` the gateway's processes, by such as
    the configuration file says now. Open answers go on. Units that do not run are not started."""

    models: list[str]
    gateway: bool = False


class Reload(msgspec.Struct, frozen=True, tag="reload"):
    """Take the configuration file over, as far as no model that is loaded has to be loaded anew.
    Nothing is changed if the file cannot be used."""


class AddKey(msgspec.Struct, frozen=True, tag="add_key"):
    """Make an API key; the answer is `KeyMade`. The fields are those of a `KeyRecord`."""

    name: str
    models: tuple[str, ...] = ("*",)
    expires_unix_s: float | None = None
    metrics: bool = False
    admin: bool = False
    weight: float = 1.0
    priority: PriorityClass = "normal"
    lowest_priority: int = 0
    group: str = ""
    owner: str = ""
    note: str = ""


class ChangeKey(msgspec.Struct, frozen=True, tag="change_key", omit_defaults=True):
    """Change a live key, by its id: what is said of it (`name`, `owner`, `note`), its group if one
    is given, and some of its limits; None of them leaves one to the configuration."""

    key_id: str
    words: dict[str, str] = {}
    group: str | None = None
    limits: dict[str, int | None] = {}


class RotateKey(msgspec.Struct, frozen=True, tag="rotate_key"):
    """Make a new key with the rights of one, by its id, which ends `overlap_s` later; the answer is
    `KeyMade`."""

    key_id: str
    overlap_s: float


class RevokeKey(msgspec.Struct, frozen=True, tag="revoke_key"):
    """End an API key, by its id."""

    key_id: str


class RunTask(msgspec.Struct, frozen=True, tag="run_task"):
    """Run a task in the background; the answer is `TaskBegun`."""

    task: Task


class CancelTask(msgspec.Struct, frozen=True, tag="cancel_task"):
    """End a task that runs, by its id."""

    task_id: str


class StartModel(msgspec.Struct, frozen=True, tag="start_model"):
    """Start a model as the configuration file says, beside what runs, and answer when it is ready
    or has failed."""

    model: str


class SetModel(msgspec.Struct, frozen=True, tag="set_model"):
    """Give a model's entry in the configuration file, which may be new, these settings; null takes
    one out, and others stay. `revision` is that of the file as the asker knows it: if it holds
    something else by now, the request is refused. With `is_trial` nothing is written. The answer is
    `ModelSet`."""

    model: str
    settings: dict[str, Any]
    revision: str
    is_trial: bool = False


class StartProgress(msgspec.Struct, frozen=True, tag="progress", omit_defaults=True):
    """A change of state. `slot` names the process: `valkey`, `gateway` or `MODEL-REPLICA`."""

    slot: str
    state: State
    stage: str = ""
    problem: Problem | None = None


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """The outcome for one process, or for a model that has none. `note` says why nothing had to
    be done."""

    slot: str
    state: State
    note: str = ""
    seconds: float = 0.0
    problem: Problem | None = None


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """The last answer to a request that was carried out, with or without success."""

    outcomes: list[Outcome]


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The last answer to a request that was not carried out. `field`: the key that is wrong, if it
    is one."""

    message: str
    hint: str = ""
    field: str = ""


class KeyMade(msgspec.Struct, frozen=True, tag="key_made"):
    """The last answer to `AddKey` and `RotateKey`. `text` is the key, which is kept nowhere."""

    key_id: str
    text: str


class TaskBegun(msgspec.Struct, frozen=True, tag="task_begun"):
    """The last answer to `RunTask`."""

    task_id: str


class UnappliedKey(msgspec.Struct, frozen=True):
    """A key of the configuration file that what runs has otherwise, and the command that applies
    it."""

    key: str
    needs: str


class ModelSet(msgspec.Struct, frozen=True, tag="model_set"):
    """The last answer to `SetModel`: the revision of the file, things to mind about the entry (each
    one line), and which of its keys wait to be applied."""

    revision: str
    warnings: list[str]
    waiting: list[UnappliedKey]


def socket_path() -> Path:
    return run_dir() / "control.sock"
