"""`ew chat`."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final

import typer

from contract.messages import State
from orchestrator.answers import Gateway
from orchestrator.errors import UserError
from orchestrator.key_file import CHAT_NAME, KeyFile
from orchestrator.last_seen import is_supervised
from orchestrator.status import read_status
from orchestrator.terminal import complain, say

_KEY_LASTS_S: Final = 86_400.0


def chat(
    model: Annotated[str, typer.Argument(help="The model's name.")],
    max_tokens: Annotated[int | None, typer.Option(min=1, help="The longest answer.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0.0, max=2.0)] = None,
    system: Annotated[str | None, typer.Option(help="What the model is told beforehand.")] = None,
) -> None:
    """Talk with a model.

    Through the gateway, as every client does. `echo hi | ./ew chat demo` asks one question.
    Uses the key in EW_API_KEY, or one of its own for as long as the conversation lasts.
    """
    options = {"modelId": model, "maxTokens": max_tokens, "temperature": temperature}
    given = {name: value for name, value in options.items() if value is not None}
    url = gateway_url()
    with _api_key(model) as key:
        conversation = _Conversation(Gateway(url, key), given, system)
        if sys.stdin.isatty():
            _converse(conversation)
        else:
            conversation.ask(sys.stdin.read().strip())


def gateway_url() -> str:
    """Where the gateway of this host listens. Raises `UserError` if it does not run."""
    status = read_status()
    gateway = status.gateway
    is_there = gateway is not None and gateway.state in (State.READY, State.STARTING)
    if gateway is None or not is_there or not is_supervised(status):
        raise UserError("the gateway does not run", "`./ew start`")
    return gateway.url


class _Conversation:
    """Turns that the model remembers."""

    def __init__(self, gateway: Gateway, options: dict[str, Any], system: str | None) -> None:
        self._gateway = gateway
        self._options = options
        self._messages = [{"role": "system", "content": system}] if system else []

    def ask(self, question: str) -> None:
        """Print the answer as it comes. An answer that breaks off leaves no trace in the
        conversation."""
        messages = [*self._messages, {"role": "user", "content": question}]
        pieces = []
        with contextlib.closing(
            self._gateway.stream({**self._options, "messages": messages})
        ) as stream:
            for piece in stream:
                pieces.append(piece)
                sys.stdout.write(piece)
                sys.stdout.flush()
        sys.stdout.write("\n")
        self._messages = [*messages, {"role": "assistant", "content": "".join(pieces)}]


def _converse(conversation: _Conversation) -> None:
    # Line editing, where this Python has it.
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401
    say("Ctrl-C breaks an answer off, Ctrl-D ends")
    while True:
        try:
            question = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            sys.stdout.write("\n")
            return
        if question:
            _answer(conversation, question)


def _answer(conversation: _Conversation, question: str) -> None:
    try:
        conversation.ask(question)
    except KeyboardInterrupt:
        sys.stdout.write("\n")
    except UserError as error:
        complain(error.message, error.hint)


@contextmanager
def _api_key(model: str) -> Iterator[str]:
    """The user's key, or one for this conversation that is removed after it."""
    given = os.environ.get("EW_API_KEY")
    if given:
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
