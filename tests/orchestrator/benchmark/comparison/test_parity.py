"""Where two answers part, and by how much they differ before."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.benchmark.comparison.answer import AnswerReader, ReadAnswer
from orchestrator.benchmark.comparison.parity import AnswerPair
from orchestrator.benchmark.comparison.report import Parity, sides_of

Token = tuple[str, float]


def event(**choice: Any) -> bytes:
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def told(text: str, *tokens: Token) -> bytes:
    """An event of a chat completion, with its tokens where there are some."""
    content = [
        {"token": token, "logprob": logprob, "bytes": list(token.encode())}
        for token, logprob in tokens
    ]
    return event(delta={"content": text}, logprobs={"content": content} if tokens else None)


def read(*events: bytes, reason: str = "stop", tokens: int | None = None) -> ReadAnswer:
    """The answer of a stream that comes whole to its end."""
    reader = AnswerReader()
    reader.status, reader.is_stream = 200, True
    for each in events:
        reader.feed(each)
    reader.feed(event(delta={}, finish_reason=reason))
    if tokens is not None:
        usage = {"choices": [], "usage": {"completion_tokens": tokens}}
        reader.feed(b"data: " + json.dumps(usage).encode() + b"\n\n")
    reader.feed(b"data: [DONE]\n\n")
    return reader.finish()


def pair(a: ReadAnswer, b: ReadAnswer) -> AnswerPair:
    return AnswerPair("a prompt", a, b)


def test_what_is_the_same_has_no_difference_however_it_is_cut() -> None:
    same = pair(read(told("one "), told("two")), read(told("one two")))
    assert same.is_same
    assert same.first_difference() is None


def test_the_first_difference_is_told_in_tokens_of_a() -> None:
    a = read(told("one ", ("one ", -0.1)), told("two three", ("two ", -0.2), ("three", -0.3)))
    # Its tokens are others, and its text parts within the third of A.
    b = read(told("one two th", ("one two ", -0.5), ("th", -0.1)), told("anks", ("anks", -1.0)))
    assert pair(a, b).first_difference() == 2
    # Who ends earlier differs there.
    assert pair(a, read(told("one "))).first_difference() == 1
    assert pair(read(told("one ", ("one ", -0.1))), a).first_difference() == 1
    assert pair(a, read()).first_difference() == 0


def test_without_logprobs_tokens_are_counted_by_the_usage() -> None:
    a = read(told("one two "), told("three four "), told("five"), tokens=6)
    assert pair(a, read(told("one two three four nine"))).first_difference() == 4


def test_a_character_of_several_tokens_is_found_by_its_bytes() -> None:
    def cut(*parts: bytes) -> bytes:
        content = [{"token": "\\ufffd", "logprob": 0.0, "bytes": list(part)} for part in parts]
        return event(delta={"content": b"".join(parts).decode()}, logprobs={"content": content})

    a, b = read(cut(b"\xe4\xb8", b"\xad")), read(cut(b"\xe4\xb8", b"\xae"))
    assert (a.text, b.text) == ("中", "丮")
    assert pair(a, b).first_difference() == 1


def test_logprobs_are_compared_up_to_the_first_token_that_differs() -> None:
    a = read(told("x y z", ("x ", -1.0), ("y ", -2.0), ("z", -3.0)))
    b = read(told("x y q", ("x ", -1.5), ("y ", -2.0), ("q", -9.0)))
    gap = Parity.of([pair(a, b)]).logprobs
    assert gap is not None
    assert (gap.tokens, gap.mean, gap.largest) == (2, 0.25, 0.5)
    assert Parity.of([pair(a, read(told("x y z")))]).logprobs is None


def test_reasoning_and_calls_are_no_answer_of_the_same_words() -> None:
    thought = read(event(delta={"reasoning": "one "}), told("two"))
    assert thought.text == "[reasoning] one [answer] two"
    assert not pair(thought, read(told("one two"))).is_same
    function = {"name": "look", "arguments": "{}"}
    calls = [read(event(delta={"tool_calls": [{"id": id_, "function": function}]})) for id_ in "ab"]
    assert calls[0].text == "[call] look{}"
    assert pair(*calls).is_same


def test_a_completion_is_read_as_a_chat_is() -> None:
    logprobs = {"tokens": ["one ", "two"], "token_logprobs": [None, -0.5]}
    answer = read(event(text="one two", logprobs=logprobs))
    assert answer.text == "one two"
    assert [token.logprob for token in answer.logprobs] == [None, -0.5]


@pytest.mark.parametrize(
    ("status", "is_stream", "body", "said"),
    [
        (404, False, b'{"error": {"message": "no such model"}}', "404: no such model"),
        (200, True, told("x"), "the stream broke off"),
        (200, True, b'data: {"error": {"message": "lost"}}\n\ndata: [DONE]\n\n', "lost"),
        (200, True, b"data: {\n\ndata: [DONE]\n\n", "an event that is no chunk: {"),
        (200, False, b"{}", "the answer is no stream of events"),
    ],
)
def test_no_answer_is_an_error(status: int, is_stream: bool, body: bytes, said: str) -> None:
    reader = AnswerReader()
    reader.status, reader.is_stream = status, is_stream
    reader.feed(body)
    assert reader.finish().error == said


def test_a_report_counts_only_what_both_answered() -> None:
    short, long = read(told("x y"), tokens=2), read(told("x z"), reason="length", tokens=4)
    failed = ReadAnswer(error="500: broken")
    pairs = [pair(short, short), pair(short, long), pair(short, failed)]
    parity = Parity.of(pairs)
    assert (parity.compared, parity.same_text, parity.same_finish_reason) == (2, 1, 1)
    assert (parity.first_difference, parity.earliest_difference) == (0, 0)
    a, b = sides_of(pairs)
    assert (a.good, a.failed, a.mean_tokens) == (3, 0, 2.0)
    assert (b.good, b.failed, b.mean_tokens, b.errors) == (2, 1, 3.0, {"500: broken": 1})
    assert b.finish_reasons == {"stop": 1, "length": 1}
    nothing = Parity.of([pair(short, failed)])
    assert (nothing.compared, nothing.first_difference) == (0, None)
