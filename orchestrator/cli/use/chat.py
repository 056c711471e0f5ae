"""`ew chat`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from orchestrator.client.dialogue import Conversation, Dialogue
from orchestrator.client.gateway_access import reach_gateway, running_gateway
from orchestrator.client.own_key import own_key
from orchestrator.errors import UserError


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
    running_gateway()
    with own_key([model], "chat") as key:
        conversation = Conversation(reach_gateway(key), given, system)
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
