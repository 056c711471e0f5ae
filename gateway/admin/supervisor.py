"""Asking the supervisor of this host for changes, over its control socket."""

from __future__ import annotations

import asyncio
from typing import Final, TypeAlias, TypeVar

import msgspec

from contract.messages import UNREADABLE
from contract.supervision.control import (
    AddKey,
    CancelTask,
    ChangeKey,
    Finished,
    KeyMade,
    Load,
    ModelSet,
    Outcome,
    Pin,
    Refused,
    RestartModels,
    RevokeKey,
    RotateKey,
    RunTask,
    SetModel,
    StartModel,
    StartProgress,
    TaskBegun,
    Unload,
    socket_path,
)
from gateway.http.errors import ApiError

ModelChange: TypeAlias = StartModel | Load | Unload | Pin | RestartModels
_ANSWER_WITHIN_S: Final = 10.0
_LONGEST_LINE: Final = 1 << 20
_KeyChange: TypeAlias = ChangeKey | RevokeKey
_Operators: TypeAlias = AddKey | RotateKey | _KeyChange | RunTask | CancelTask | SetModel
_Change: TypeAlias = ModelChange | _Operators
_Done: TypeAlias = StartProgress | Finished | KeyMade | TaskBegun | ModelSet
_Answer: TypeAlias = _Done | Refused
_Form = TypeVar("_Form", KeyMade, TaskBegun, ModelSet)
_answers = msgspec.json.Decoder(_Answer)


async def change_models(request: ModelChange, *, to_the_end: bool) -> list[Outcome] | None:
    """Have models changed. Return what became of them; or None as soon as the change is under way,
    unless it is waited for `to_the_end`. A caller that leaves does not undo it.

    Raises `ApiError`: `refused`, or `supervisor_away`.
    """
    answer = await _ask(request, to_the_end=to_the_end)
    return answer.outcomes if isinstance(answer, Finished) else None


async def make_key(request: AddKey | RotateKey) -> KeyMade:
    """Make an API key. Raises `ApiError`."""
    return await _answer(request, KeyMade)


async def change_key(request: _KeyChange) -> None:
    """Change or end an API key. Raises `ApiError`."""
    await _ask(request, to_the_end=True)


async def set_model(request: SetModel) -> ModelSet:
    """Have a model's entry in the configuration file changed. Raises `ApiError`."""
    return await _answer(request, ModelSet)


async def begin_task(request: RunTask) -> str:
    """Begin a task. Return its id. Raises `ApiError`."""
    return (await _answer(request, TaskBegun)).task_id


async def cancel_task(request: CancelTask) -> None:
    """Have a task ended. Raises `ApiError`."""
    await _ask(request, to_the_end=True)


async def _answer(request: _Change, form: type[_Form]) -> _Form:
    """Return the answer, which has this form. Raises `ApiError`."""
    answer = await _ask(request, to_the_end=True)
    if not isinstance(answer, form):
        raise _away("it is of another version of ew")
    return answer


async def _ask(request: _Change, *, to_the_end: bool) -> _Done:
    """Return the last answer, or the first."""
    try:
        reader, writer = await asyncio.open_unix_connection(socket_path(), limit=_LONGEST_LINE)
    except OSError as error:
        raise _away("nothing listens at its socket") from error
    try:
        writer.write(msgspec.json.encode(request) + b"\n")
        while True:
            # The first request is answered at once; how long a model loads is not known here.
            async with asyncio.timeout(None if to_the_end else _ANSWER_WITHIN_S):
                line = await reader.readline()
            answer = _read(line)
            if isinstance(answer, Refused):
                hint = f"; {answer.hint}" if answer.hint else ""
                raise ApiError("refused", answer.message + hint, field=answer.field or None)
            if not (to_the_end and isinstance(answer, StartProgress)):
                return answer
    except TimeoutError:
        raise _away("it does not answer") from None
    except (OSError, ValueError) as error:
        raise _away("the connection to it has broken") from error
    finally:
        writer.close()


def _read(line: bytes) -> _Answer:
    if not line:
        raise _away("it went away before it had answered")
    try:
        answer: _Answer = _answers.decode(line)
    except UNREADABLE:
        raise _away("it is of another version of ew") from None
    return answer


def _away(why: str) -> ApiError:
    message = f"the supervisor of this host cannot be asked: {why}; it may be restarting"
    return ApiError("supervisor_away", message)
