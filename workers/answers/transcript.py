"""Transcripts: an answer as one string: text as it is, and a mark wherever something else begins
(reasoning, a tool call, or text again).

So an answer of several kinds is compared and continued like one of text alone. The ids of tool
calls are left out: they are made up anew each time, and the client has those of the first time.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

from contract.messages import Delta, ReasoningDelta, TokenLogprob, ToolCallDelta


class ToolPiece(NamedTuple):
    """A piece of the answer's `call`-th tool call; `id` and `name` come with its first."""

    call: int
    id: str = ""
    name: str = ""


#: The kind that a piece of text is part of; None is the answer itself.
Kind: TypeAlias = ToolPiece | Literal["reasoning"] | None
REASONING: Final = "reasoning"
#: Tokenizers make no text with it in it.
_MARK: Final = "\0"


class Transcript:
    """Turns pieces into a transcript, one after the other."""

    def __init__(self) -> None:
        self._current: int | str | None = None

    def piece(self, kind: Kind, text: str) -> str:
        """Return what the transcript gains by a piece."""
        current = kind.call if isinstance(kind, ToolPiece) else kind
        if current == self._current:
            return text
        self._current = current
        name = kind.name if isinstance(kind, ToolPiece) else ""
        return f"{_MARK}{'text' if current is None else current} {name}{_MARK}{text}"

    def delta(self, delta: Delta) -> str:
        """The same for a piece that has been published."""
        return self.piece(kind_of(delta), delta.text)


def kind_of(delta: Delta) -> Kind:
    if isinstance(delta, ToolCallDelta):
        return ToolPiece(delta.call, delta.id, delta.name)
    return REASONING if isinstance(delta, ReasoningDelta) else None


def delta_of(
    kind: Kind, text: str, tokens: bytes, index: int, logprobs: tuple[TokenLogprob, ...] | None
) -> Delta:
    """Return the event for a piece."""
    if kind is None:
        return Delta(text, tokens, index, logprobs)
    if isinstance(kind, ToolPiece):
        return ToolCallDelta(text, tokens, index, logprobs, *kind)
    return ReasoningDelta(text, tokens, index, logprobs)
