"""`ew chat`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Final

import typer

from contract.keys import is_well_formed
from contract.messages import State
from orchestrator.client.dialogue import Conversation, Dialogue
from orchestrator.client.gateway_client import Gateway, KeyRefused
from orchestrator.config.key_file import CHAT_NAME, KeyFile
from orchestrator.errors import UserError
from orchestrator.protocol.last_seen import is_supervised
from orchestrator.protocol.status import read_status

_VARIABLE: Final = "EW_API_KEY"
_KEY_LASTS_S: Final = 86_400.0


def chat(
    model: Annotated[str, typer.Argument(help="The model's name.")],
    max_tokens: Annotated[int | None, typer.Option(min=1, help="The longest answer.")] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0.0, max=2.0, help="0 is the likeliest answer.")
    ] = None,
    system: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What the model is told beforehand.")
    ] = None,
) -> None:
    """Talk with a model.

    Through the gateway, as every client does. `echo hi | ./ew chat demo` asks one question.
    Uses the key in EW_API_KEY, or one of its own for as long as the conversation lasts.
    """
    options = {"modelId": model, "maxTokens": max_tokens, "temperature": temperature}
    given = {name: value for name, value in options.items() if value is not None}
    url = gateway_url()
    with _api_key(model) as key:
        conversation = Conversation(Gateway(url, key), given, system)
        if sys.stdin.isatty():
            Dialogue(conversation).run()
        else:
            conversation.ask(_question())


def _question() -> str:
    """Return what stands in stdin. Raises `UserError`."""
    try:
        question = sys.stdin.buffer.read().decode().strip()
    except UnicodeDecodeError:
        raise UserError("the question on stdin is not UTF-8 text", "convert it first") from None
    if not question:
        raise UserError("nothing is asked", "`echo hi | ./ew chat MODEL` asks something")
    return question


def gateway_url() -> str:
    """Return where the gateway of this host listens. Raises `UserError` if it does not run."""
    status = read_status()
    gateway = status.gateway
    is_there = gateway is not None and gateway.state in (State.READY, State.STARTING)
    if gateway is None or not is_there or not is_supervised(status):
        raise UserError("the gateway does not run", "`./ew start`")
    return gateway.url


@contextmanager
def _api_key(model: str) -> Iterator[str]:
    """The user's key, or one for this conversation that is removed after it."""
    given = os.environ.get(_VARIABLE)
    if given:
        with _named(given):
            yield given
        return
    keys = KeyFile()
    now = time.time()
    keys.forget(lambda record: record.name == CHAT_NAME and not record.is_live(now))
    own = keys.add(CHAT_NAME, (model,), now + _KEY_LASTS_S)
    try:
        yield own.text
    finally:
        keys.forget(lambda record: record.id == own.record.id)


@contextmanager
def _named(key: str) -> Iterator[None]:
    """Blame the variable for a key that does not open."""
    hint = f"`unset {_VARIABLE}` and chat makes a key of its own; `./ew keys list` shows the others"
    if not is_well_formed(key):
        raise UserError(f"{_VARIABLE} holds no key of ew: it is mistyped, or cut off", hint)
    try:
        yield
    except KeyRefused:
        message = f"the gateway refuses the key in {_VARIABLE}: it is unknown, expired or revoked"
        raise KeyRefused(message, hint) from None
