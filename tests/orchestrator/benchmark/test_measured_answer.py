"""Which events of an answer are counted, and when, however the network cuts it."""

from __future__ import annotations

import pytest

from orchestrator.benchmark.measured_answer import MeasuredAnswer
from orchestrator.benchmark.tally import Tally, TimeHistogram

ROLE = b'data: {"choices": [{"delta": {"role": "assistant", "content": ""}}]}\n\n'
END = b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'
USAGE = b'data: {"choices": [], "usage": {"completion_tokens": 6, "prompt_tokens": 3}}\n\n'
DONE = b"data: [DONE]\n\n"


def text(content: str) -> bytes:
    return b'data: {"choices": [{"delta": {"content": "%b"}}]}\n\n' % content.encode()


def take(*pieces: bytes, status: int = 200, is_stream: bool = True) -> Tally:
    tally = Tally()
    tally.begin()
    answer = MeasuredAnswer(tally)
    answer.status, answer.is_stream = status, is_stream
    for piece in pieces:
        answer.feed(piece)
    answer.finish()
    return tally


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_events_with_text_are_counted_wherever_they_are_cut(size: int) -> None:
    body = ROLE + text("a") + b": a comment\r\n\r\n" + text("b") + text("c") + END + USAGE + DONE
    tally = take(*(body[at : at + size] for at in range(0, len(body), size)))
    assert (tally.good, tally.failed, sum(tally.events_by_second)) == (1, 0, 3)
    assert tally.tokens_per_event == 2.0


def test_the_first_token_is_the_first_text_and_not_the_role() -> None:
    assert take(ROLE).ttft.quantile_ms(0.5) is None
    whole = take(ROLE, text("a"), text("b") + text("c"), text("d"), DONE)
    assert sum(whole.ttft.counts.values()) == 1
    # One read is one arrival.
    assert sum(whole.gap.counts.values()) == 2


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_reasoning_and_calls_are_tokens(field: str) -> None:
    thought = b'data: {"choices": [{"delta": {"%b": "hm"}}]}\n\n' % field.encode()
    call = b'data: {"choices": [{"delta": {"tool_calls": [{"index": 0}]}}]}\n\n'
    plain = b'data: {"choices": [{"text": "of a completion"}]}\n\n'
    assert sum(take(thought, call, plain, DONE).events_by_second) == 3


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ([text("a")], "the stream broke off"),
        ([text("a"), b'data: {"error": {"message": "it died"}}\n\n', DONE], "it died"),
        ([b"data: {]\n\n", DONE], "an event that is no chunk: {]"),
    ],
)
def test_a_stream_that_does_not_end_well_has_failed(pieces: list[bytes], said: str) -> None:
    tally = take(*pieces)
    assert (tally.good, tally.errors) == (0, {said: 1})


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error": {"message": "no such model"}}', "404: no such model"),
        (b'{"object": "error", "message": "no such model"}', "404: no such model"),
        (b"<html>not found", "404: <html>not found"),
        (b"", "404: without a word"),
    ],
)
def test_a_refusal_is_told_in_the_words_of_the_server(body: bytes, said: str) -> None:
    assert take(body, status=404, is_stream=False).errors == {said: 1}


def test_an_answer_that_is_no_stream_has_its_tokens_at_its_end() -> None:
    tally = take(b'{"choices": [{}], "usage": {"completion_tokens": 5}}', is_stream=False)
    assert (tally.good, sum(tally.events_by_second), tally.tokens_per_event) == (1, 5, 1.0)
    assert tally.ttft.quantile_ms(0.5) is None


def test_quantiles_are_exact_to_a_percent_however_they_are_added_up() -> None:
    halves = TimeHistogram(), TimeHistogram()
    for number in range(1, 1001):
        halves[number % 2].add(number / 1000)
    halves[0].merge(halves[1])
    for share in (0.5, 0.9, 0.99):
        assert halves[0].quantile_ms(share) == pytest.approx(1000 * share, rel=0.011)
