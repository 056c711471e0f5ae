"""Parsers that read text alone, as those of SGLang and TensorRT-LLM do: one tells what the model
thinks from the rest, the next finds calls of tools in that."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from workers.answers.transcript import REASONING, ToolPiece
from workers.engines.shared.parsing.pieces import ParsedPiece, new_call_id

#: Parsers say a call's name first and its arguments when they are asked again.
_MOST_ASKED: Final = 1_000


class ReadCall(NamedTuple):
    """A piece of a call; `number` as the parser counts calls. `name` comes with its first."""

    number: int
    name: str
    arguments: str


class SaidCalls(NamedTuple):
    text: str = ""
    calls: Sequence[ReadCall] = ()

    @classmethod
    def of(cls, text: str | None, items: Iterable[Any]) -> SaidCalls:
        """Return it of text and the `ToolCallItem`s of SGLang, or of TensorRT-LLM, which has them
        from there; each may lack its name or its arguments."""
        calls = [
            ReadCall(each.tool_index, each.name or "", each.parameters or "") for each in items
        ]
        return cls(text or "", calls)


class SaidThoughts(NamedTuple):
    reasoning: str = ""
    text: str = ""

    @classmethod
    def of(cls, reasoning: str | None, text: str | None) -> SaidThoughts:
        """Return it of what a parser says, which may be nothing."""
        return cls(reasoning or "", text or "")


class ThoughtReader(Protocol):
    """Tells what the model thinks; `end` what it has held back when the text has ended."""

    def read(self, text: str) -> SaidThoughts: ...

    def end(self) -> SaidThoughts: ...


class CallReader(Protocol):
    """Finds calls; `end` as above."""

    def read(self, text: str) -> SaidCalls: ...

    def end(self) -> SaidCalls: ...


class ParsedText:
    """One choice, read token by token: parsers go wrong over several at once, as they come from an
    engine that guesses ahead, or whose outputs were waited for. `decode_one` is the text of a
    token, special or not. `ends` are texts of tokens that end an answer, of which one may be the
    end of its text."""

    def __init__(
        self,
        thoughts: ThoughtReader | None,
        calls: CallReader | None,
        *,
        decode_one: Callable[[int], str] = lambda _: "",
        only_one_call: bool = False,
        ends: Sequence[str] = (),
    ) -> None:
        self._thoughts = thoughts
        self._reader = calls
        self._decode_one = decode_one
        self._only_one = only_one_call
        self._ends = tuple(end for end in ends if end)
        #: Until there is a call: the text for its reader, and what that has said of it.
        self._given = self._told = ""
        #: By the reader's number of a call: how many there were before it.
        self._places: dict[int, int] = {}
        self._count = 0
        self.has_called = False

    def feed(self, text: str, token_ids: Sequence[int], *, finished: bool) -> list[ParsedPiece]:
        """Return what new text means. Raises what a parser may raise."""
        if finished:
            text = self._without_end(text)
        *first, last = self._split(text, token_ids)
        pieces = [piece for each in first for piece in self._read(each, finished=False)]
        return pieces + self._read(last, finished=finished)

    def _split(self, text: str, token_ids: Sequence[int]) -> list[str]:
        """Cut text where tokens end, as far as that can be told from theirs: it may lag behind its
        tokens, and parts of characters have no text of their own."""
        cut = [0]
        for token in token_ids[:-1]:
            own = self._decode_one(token)
            found = next((each for each in (own, f" {own}") if text.startswith(each, cut[-1])), "")
            if found:
                cut.append(cut[-1] + len(found))
        return [text[begin:end] for begin, end in zip(cut, [*cut[1:], len(text)], strict=True)]

    def _read(self, text: str, *, finished: bool) -> list[ParsedPiece]:
        reasoning = ""
        if self._thoughts is not None:
            reasoning, text = self._thoughts.read(text)
            if finished:
                last = self._thoughts.end()
                reasoning, text = reasoning + last.reasoning, text + last.text
        pieces = [ParsedPiece(REASONING, reasoning)] if reasoning else []
        return pieces + self._content(text, finished=finished)

    def _without_end(self, text: str) -> str:
        end = next((end for end in self._ends if text.endswith(end)), "")
        return text.removesuffix(end)

    def _content(self, text: str, *, finished: bool) -> list[ParsedPiece]:
        reader = self._reader
        if reader is None:
            return [ParsedPiece(None, text)] if text else []
        pieces = self._pieces(reader.read(text), text)
        if finished:
            for _ in range(_MOST_ASKED):
                more = self._pieces(reader.read(""))
                pieces += more
                if not more:
                    break
            pieces += self._pieces(reader.end())
            pieces += self._held_back()
        return pieces

    def _pieces(self, said: SaidCalls, given: str = "") -> list[ParsedPiece]:
        if not self.has_called:
            self._given += given
            self._told += said.text
        pieces = [ParsedPiece(None, said.text)] if said.text else []
        for call in said.calls:
            if call.name or call.arguments:
                pieces += self._call(call)
        return pieces

    def _call(self, call: ReadCall) -> list[ParsedPiece]:
        if call.name:
            self._places[call.number] = self._count
            self._count += 1
            self.has_called = True
        place = self._places.get(call.number, self._count - 1)
        if place < 0 or (self._only_one and place > 0):
            return []
        call_id = new_call_id() if call.name else ""
        return [ParsedPiece(ToolPiece(place, call_id, call.name), call.arguments)]

    def _held_back(self) -> list[ParsedPiece]:
        """The text that looked like a call, and was none: it was said, so the client is told."""
        if self.has_called or not self._given.startswith(self._told):
            return []
        rest = self._given[len(self._told) :]
        return [ParsedPiece(None, rest)] if rest else []
