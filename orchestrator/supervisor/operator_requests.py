"""Requests over the gateway that change no process of ew: keys, and tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from contract.supervision.control import (
    AddKey,
    CancelTask,
    Finished,
    KeyMade,
    RevokeKey,
    RunTask,
    TaskBegun,
)
from orchestrator.config.key_file import KeyFile
from orchestrator.errors import UserError
from orchestrator.supervisor.tasks.runner import TaskRunner

OperatorRequest: TypeAlias = AddKey | RevokeKey | RunTask | CancelTask


def carry_out(
    request: OperatorRequest, tasks: TaskRunner, variables: Mapping[str, str]
) -> KeyMade | TaskBegun | Finished:
    """Do what is asked; `variables` are the EW_* settings of what runs. Blocks until the disk has
    it. Raises `UserError`."""
    match request:
        case AddKey():
            return _made(request)
        case RevokeKey():
            KeyFile().revoke(request.key_id)
        case RunTask():
            try:
                return TaskBegun(tasks.begin(request.task, variables))
            except OSError as error:
                raise UserError(
                    f"the task cannot begin: {error}", "see the state directory"
                ) from None
        case CancelTask():
            tasks.cancel(request.task_id)
    return Finished([])


def _made(request: AddKey) -> KeyMade:
    made = KeyFile().add(
        request.name,
        request.models,
        request.expires_unix_s,
        metrics=request.metrics,
        admin=request.admin,
        weight=request.weight,
        priority=request.priority,
    )
    return KeyMade(made.record.id, made.text)
