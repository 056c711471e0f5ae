"""Requests over the gateway that change no process of ew: keys, tasks, models' entries in the
configuration file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TypeAlias

import msgspec

from contract.config import Config, ConfigError
from contract.config.checks.heeded import remarks
from contract.config.loading import Source
from contract.keys import KeyRecord, NewKey
from contract.paths import as_called, config_path
from contract.supervision.control import (
    AddKey,
    CancelTask,
    ChangeKey,
    Finished,
    KeyMade,
    ModelSet,
    RevokeKey,
    RotateKey,
    RunTask,
    SetModel,
    TaskBegun,
    UnappliedKey,
)
from orchestrator.config.config_file import set_model
from orchestrator.config.host_checks import look
from orchestrator.config.key_file import KeyFile, check_group, check_words
from orchestrator.errors import UserError
from orchestrator.supervisor.restarting import assume, changes_by
from orchestrator.supervisor.tasks.runner import TaskRunner

OperatorRequest: TypeAlias = (
    AddKey | ChangeKey | RotateKey | RevokeKey | RunTask | CancelTask | SetModel
)


def carry_out(
    request: OperatorRequest, tasks: TaskRunner, variables: Mapping[str, str]
) -> KeyMade | TaskBegun | ModelSet | Finished:
    """Do what is asked; `variables` are the EW_* settings of what runs. Blocks until the disk has
    it. Raises `UserError`."""
    match request:
        case AddKey() | RotateKey():
            new = _made(request)
            return KeyMade(new.record.id, new.text)
        case ChangeKey():
            KeyFile().change(request.key_id, partial(_changed, change=request))
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
        case SetModel():
            return _set_model(request, variables)
    return Finished([])


def _set_model(request: SetModel, variables: Mapping[str, str]) -> ModelSet:
    assume(dict(variables))
    path = config_path()
    try:
        Source(path)
    except ConfigError as error:
        raise UserError(
            str(error), "mend the file first; `./ew config check` looks again"
        ) from None
    config, source = set_model(
        path,
        request.model,
        request.settings,
        revision=request.revision,
        is_trial=request.is_trial,
    )
    about = f"models.{request.model}"
    return ModelSet(
        request.revision if request.is_trial else source.revision,
        list(_warnings(request.model, config, source)),
        [
            UnappliedKey(each.key, as_called(each.needs))
            for each in changes_by(config)
            if each.needs and (each.key == about or each.key.startswith(f"{about}."))
        ],
    )


def _warnings(model_id: str, config: Config, source: Source) -> Iterator[str]:
    """Yield what is to be minded about a model: what has no effect, and what this host lacks."""
    about = ["models", model_id]
    for mistake in remarks(config):
        if mistake.keys[:2] == about:
            yield source.line(mistake)
    for found in look(config, [model_id]):
        if found.keys[:2] == about:
            yield f"{source.place(found.keys)}: {found.message}; {found.fix}"


def _made(request: AddKey | RotateKey) -> NewKey:
    """Raises `UserError`."""
    if isinstance(request, RotateKey):
        return KeyFile().rotate(request.key_id, request.overlap_s)
    rights = msgspec.structs.asdict(request)
    name, models, expires = (rights.pop(each) for each in ("name", "models", "expires_unix_s"))
    return KeyFile().add(name, models, expires, **rights)


def _changed(record: KeyRecord, change: ChangeKey) -> KeyRecord:
    """Raises `UserError`."""
    check_words(**change.words)
    check_group(change.group or "")
    return msgspec.structs.replace(
        record,
        group=record.group if change.group is None else change.group,
        limits=msgspec.structs.replace(record.limits, **change.limits),
        **change.words,
    )
