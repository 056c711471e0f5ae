"""Turns of a conversation that are told in parts, as APIs of items and blocks have them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec.structs import replace

from contract.messages import ChatMessage


def joined(
    turns: Iterable[ChatMessage], may_join: Callable[[ChatMessage, ChatMessage], bool]
) -> list[ChatMessage]:
    """Return the turns, those that follow one another as one where `may_join` says so."""
    together: list[ChatMessage] = []
    for turn in turns:
        if together and may_join(together[-1], turn):
            together[-1] = _one_of(together[-1], turn)
        else:
            together.append(turn)
    return together


def _one_of(one: ChatMessage, other: ChatMessage) -> ChatMessage:
    thoughts = filter(None, (one.reasoning, other.reasoning))
    content = "\n".join(filter(None, (one.content, other.content)))
    shift = len(content) - len(other.content)
    return replace(
        one,
        content=content,
        media=one.media + tuple(replace(each, at=each.at + shift) for each in other.media),
        tool_calls=one.tool_calls + other.tool_calls,
        reasoning="\n".join(thoughts) or None,
    )
