"""`ew chat`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Final

import typer

from orchestrator.client.dialogue import Conversation, Dialogue
from orchestrator.client.gateway_access import (
    KEY_VARIABLE,
    blaming_variable,
    gateway_url,
    given_key,
)
from orchestrator.client.gateway_client import Gateway
from orchestrator.config.key_file import CHAT_NAME, KeyFile
from orchestrator.errors import UserError

_OWN_KEY: Final = (
    f"`unset {KEY_VARIABLE}` and chat makes a key of its own; `./ew keys list` shows the others"
)
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


@contextmanager
def _api_key(model: str) -> Iterator[str]:
    """The user's key, or one for this conversation that is removed after it."""
    given = given_key()
    if given is not None:
        with blaming_variable(given, _OWN_KEY):
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
