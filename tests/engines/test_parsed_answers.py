"""Answers of SGLang and TensorRT-LLM whose text is read by parsers: what is sent of them, and how
they end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from contract.asked import Tools
from contract.messages import Job, Sampling
from workers.engines.sglang.answer import SglangAnswer, SglangChoice
from workers.engines.shared.parsing.text import (
    ParsedText,
    ReadCall,
    SaidCalls,
    SaidThoughts,
)
from workers.engines.shared.stop_strings import StopStrings
from workers.engines.trtllm.answer import TrtllmAnswer, TrtllmChoice


class Thoughts:
    """All before a bar is a thought."""

    def __init__(self) -> None:
        self._thinks = True

    def read(self, text: str) -> SaidThoughts:
        if not self._thinks:
            return SaidThoughts("", text)
        thought, bar, rest = text.partition("|")
        self._thinks = not bar
        return SaidThoughts(thought, rest)

    def end(self) -> SaidThoughts:
        return SaidThoughts()


class Calls:
    """`!name` is a call, `?` an error."""

    def read(self, text: str) -> SaidCalls:
        if "?" in text:
            raise KeyError("?")
        said, bang, name = text.partition("!")
        return SaidCalls(said, [ReadCall(0, name, "{}")] if bang else [])

    def end(self) -> SaidCalls:
        return SaidCalls()


@dataclass
class Outbox:
    """Keeps what is sent."""

    deltas: list[tuple[Any, ...]] = field(default_factory=list)
    ends: list[tuple[Any, ...]] = field(default_factory=list)

    def delta(self, job_id: str, text: str, tokens: Sequence[int], *how: Any) -> None:
        self.deltas.append((how[2] if len(how) > 2 else None, text, list(tokens)))

    def done(self, job_id: str, reasons: tuple[str, ...], *how: Any, **more: Any) -> None:
        self.ends.append(reasons)

    def give_up(self, job_id: str, code: Any, message: str) -> None:
        self.ends.append((message,))


def sglang(outbox: Any, job: Job, parsed: list[ParsedText], texts: Sequence[str]) -> None:
    choice = SglangChoice((), lambda ids: "")
    answer = SglangAnswer(outbox, job, 3, [choice], parsed)
    for number, text in enumerate(texts, start=1):
        finish = {"type": "stop", "matched": 2} if number == len(texts) else None
        meta = {"finish_reason": finish}
        answer.take(0, {"text": text, "output_ids": [number], "meta_info": meta})


def trtllm(outbox: Any, job: Job, parsed: list[ParsedText], texts: Sequence[str]) -> None:
    choice = TrtllmChoice((), StopStrings(()), lambda ids: "")
    answer = TrtllmAnswer(outbox, job, 3, [choice], parsed)
    output = SimpleNamespace(text="", token_ids=[], finish_reason=None, stop_reason=None)
    output.logprobs = []
    for number, text in enumerate(texts, start=1):
        output.text += text
        output.token_ids = [*output.token_ids, number]
        output.finish_reason = "stop" if number == len(texts) else None
        answer.take(0, SimpleNamespace(outputs=[output], finished=True))


ENGINES = pytest.mark.parametrize("engine", [sglang, trtllm])
Say = Callable[[Any, Job, list[ParsedText], Sequence[str]], None]


def said(engine: Say, *texts: str, tools: Tools | None = None) -> Outbox:
    outbox, job = Outbox(), Job("j", "m", Sampling(), tools=tools)
    engine(outbox, job, [ParsedText(Thoughts(), Calls())], texts)
    return outbox


@ENGINES
def test_each_piece_has_its_kind_and_each_token_is_sent_once(engine: Say) -> None:
    outbox = said(engine, "so", "|yes", "", "!f", tools=Tools("[]"))
    kinds = [getattr(kind, "name", kind) for kind, _, _ in outbox.deltas]
    assert kinds == ["reasoning", None, None, "f"]
    assert [text for _, text, _ in outbox.deltas] == ["so", "yes", "", "{}"]
    assert [tokens for *_, tokens in outbox.deltas] == [[1], [2], [3], [4]]


@ENGINES
def test_an_answer_that_calls_ends_with_that_unless_the_tool_was_named(engine: Say) -> None:
    assert said(engine, "|yes").ends == [("stop",)]
    assert said(engine, "|!f", tools=Tools("[]")).ends == [("tool_calls",)]
    assert said(engine, "|!f", tools=Tools("[]", "named", "f")).ends == [("stop",)]


@ENGINES
def test_an_answer_that_its_parser_cannot_read_ends_with_an_error_that_names_it(
    engine: Say,
) -> None:
    outbox = said(engine, "|a", "?", tools=Tools("[]"))
    (end,) = outbox.ends
    assert "is its entry's parser the right one?" in end[0]


def test_a_parser_is_given_one_token_after_the_other_however_many_come_at_once() -> None:
    heard: list[str] = []

    class Hearing(Calls):
        def read(self, text: str) -> SaidCalls:
            heard.append(text)
            return SaidCalls(text)

    words = {1: "So", 2: "it", 3: "�", 4: "�", 5: "<end>", 6: "."}
    parsed = ParsedText(None, Hearing(), decode_one=words.__getitem__)
    # A token may have a space before it that its own text lacks, or be left out of the text.
    pieces = parsed.feed("So it€.", [1, 2, 3, 4, 5, 6], finished=False)
    assert heard == ["So", " it", "€."]
    assert "".join(text for _, text in pieces) == "So it€."
    heard.clear()
    parsed.feed("", [1, 2], finished=False)
    parsed.feed("So it.", [], finished=False)
    assert heard == ["", "So it."]
