"""Streams that servers were seen to send, and that no server should: each has one meaning, and ends
the job that it is the answer to at most."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
from functools import partial
from typing import Any

import pytest

from contract.messages import TokenLogprob
from tests.engines.openai.bench import Bench
from tests.engines.openai.scripted_upstream import Exchange
from workers.engines.openai.errors import UpstreamFailed
from workers.engines.openai.halves import Halves
from workers.engines.openai.server_sent_events import Event, EventReader
from workers.engines.openai.stream import Chunk, read_chunk

CUT, EOF = "cut", "eof"


def chunk(text: str | None = None, reason: str | None = None, **more: Any) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}], **more}


def index(index: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": {"content": "X"}, "finish_reason": None}]}


def data(event: Any, end: bytes = b"\n\n") -> bytes:
    return b"data: " + json.dumps(event, ensure_ascii=False).encode() + end


def raw(text: bytes) -> bytes:
    """Return a chunk whose content is written as it is."""
    return b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % text


def play(*parts: Any) -> Any:
    """Return an upstream that sends these: bytes as they are, all else as an event."""

    async def answer(exchange: Exchange) -> None:
        for part in parts:
            if part == CUT:
                exchange.break_off()
                return
            if part != EOF:
                await exchange.send(part if isinstance(part, bytes) else data(part))
        await exchange.end()

    return answer


HELLO, STOP, DONE = chunk("Hello"), chunk(None, "stop"), b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
FINE: dict[str, tuple[list[Any], str]] = {
    "an empty reason is none": ([chunk("Hello", ""), chunk(" you", ""), STOP, DONE], "Hello you"),
    "`null` as text is none": ([chunk("Hello", "null"), STOP, DONE], "Hello"),
    "no choices with the usage": ([HELLO, STOP, {"choices": None, "usage": USAGE}, DONE], "Hello"),
    "no choices at all": ([{"id": "x"}, HELLO, STOP, DONE], "Hello"),
    "an index that is null": ([index(None), STOP, DONE], "X"),
    "CRLF": ([data(HELLO, b"\r\n\r\n"), data(STOP, b"\r\n\r\n"), DONE], "Hello"),
    "CR": ([data(HELLO, b"\r\r"), data(STOP, b"\r\r"), b"data: [DONE]\r\r"], "Hello"),
    "CRLF in two packets": ([data(HELLO, b"\r"), b"\n\r", b"\n", STOP, DONE], "Hello"),
    "several lines": (
        [b'data: {"choices":[{"index":0,\r\ndata: "delta":{"content":"Hello"}}]}\n\n', STOP, DONE],
        "Hello",
    ),
    "a byte order mark": ([b"\xef\xbb", b"\xbf" + data(HELLO), STOP, DONE], "Hello"),
    "comments and other fields": ([b": ping\n\nid: 3\nevent: x\n", HELLO, STOP, DONE], "Hello"),
    "separators that are text": (
        [chunk("a\u2028b\u0085c\u2029d"), STOP, DONE],
        "a\u2028b\x85c\u2029d",
    ),
    "a NUL": ([chunk("a\0b"), STOP, DONE], "a\0b"),
    "a pair": ([raw(rb"\ud83d\ude00"), STOP, DONE], "\U0001f600"),
    "a pair in two chunks": ([raw(rb"a\ud83d"), raw(rb"\ude00b"), STOP, DONE], "a\U0001f600b"),
    "a pair around an empty one": (
        [raw(rb"\ud83d"), raw(b""), raw(rb"\ude00"), STOP],
        "\U0001f600",
    ),
    "half a pair": ([raw(rb"a\ud83d"), STOP, DONE], "a\ufffd"),
    "half a pair, then text": ([raw(rb"a\ud83d"), raw(b"b"), STOP, DONE], "a\ufffdb"),
    "the wrong half": ([raw(rb"\ude00\ud83d"), raw(b"b"), STOP, DONE], "\ufffd\ufffdb"),
    "content in parts": (
        [
            {
                "choices": [
                    {
                        "delta": {
                            "content": [
                                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                                {"type": "text", "text": "Hello"},
                            ]
                        }
                    }
                ]
            },
            STOP,
        ],
        "Hello",
    ),
    "no space after the colon": (
        [each.replace(b"data: ", b"data:") for each in (data(HELLO), data(STOP), DONE)],
        "Hello",
    ),
    "a character in three packets": (
        [
            b'data: {"choices":[{"index":0,"delta":{"content":"h\xe4\xbd',
            b"\xa0\xf0\x9f",
            b'\x8c\x9f"}}]}\n\n',
            STOP,
            DONE,
        ],
        "h\u4f60\U0001f31f",
    ),
    "thoughts before it": (
        [{"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}}]}, HELLO, STOP, DONE],
        "Hello",
    ),
    "counts in every chunk": (
        [
            {**HELLO, "usage": {"prompt_tokens": 5, "completion_tokens": 1}},
            {**STOP, "usage": USAGE},
            DONE,
        ],
        "Hello",
    ),
    "counts that are null": (
        [HELLO, STOP, {"choices": [], "usage": dict.fromkeys(USAGE)}, DONE],
        "Hello",
    ),
    "counts that are floats": (
        [HELLO, STOP, {"choices": [], "usage": {k: float(n) for k, n in USAGE.items()}}, DONE],
        "Hello",
    ),
    "counts in odd detail": (
        [
            HELLO,
            STOP,
            {
                "choices": [],
                "usage": {
                    **USAGE,
                    "prompt_tokens_details": {"cached_tokens": None},
                    "completion_tokens_details": [],
                },
            },
            DONE,
        ],
        "Hello",
    ),
    "a refusal": ([{"choices": [{"delta": {"refusal": "No."}}]}, STOP, DONE], "No."),
    "text with its end": ([HELLO, chunk(" you", "stop"), DONE], "Hello you"),
    "another word for it": ([HELLO, chunk(None, "eos_token"), DONE], "Hello"),
    "text after its end": ([HELLO, STOP, chunk(" you"), DONE], "Hello you"),
    "no end of the stream": ([HELLO, STOP, b"data: [DONE]"], "Hello"),
    "what follows the end": ([HELLO, STOP, DONE, b"data: {oops\n\n", {"error": "late"}], "Hello"),
    "much that follows the end": ([HELLO, STOP, DONE, *[b":" * 4000] * 3, CUT], "Hello"),
}


async def test_what_is_harmless_is_taken_as_it_is_meant(bench: Bench) -> None:
    await bench.ready()
    for name, (parts, text) in FINE.items():
        bench.upstream.answer = play(*parts)
        answer = await bench.ask("hi")
        assert (answer.text, answer.done.finish_reasons) == (text, ("stop",)), name


NO_END: dict[str, list[Any]] = {
    "cut": [HELLO, CUT],
    "cut after an empty reason": [chunk("Hello", ""), CUT],
    "no reason": [HELLO, EOF],
    "an empty reason": [chunk("Hello", ""), EOF],
    "`null` as text": [chunk("Hello", "null"), EOF],
    "`[DONE]` without a reason": [HELLO, DONE],
    "nothing but `[DONE]`": [DONE],
    "nothing": [EOF],
    "aborted": [HELLO, chunk(None, "abort"), DONE],
    "an error as the reason": [HELLO, chunk(None, "error"), DONE],
    "too much to do": [HELLO, chunk(None, "insufficient_system_resource"), DONE],
}
ERRORS: dict[str, list[Any]] = {
    "an object": [HELLO, {"object": "error", "message": "EngineCore", "code": 500}, DONE],
    "nested": [HELLO, {"error": {"message": "EngineCore", "code": 500}}, STOP, DONE],
    "a text": [HELLO, {"error": "boom"}, STOP, DONE],
    "an event": [HELLO, b'event: error\ndata: {"message":"boom","code":500}\n\n', STOP, DONE],
    "an event that is no JSON": [HELLO, b"event: error\ndata: boom\n\n", STOP, DONE],
    "a field (llama.cpp)": [HELLO, b'error: {"code":500,"message":"boom"}\n\n', STOP, DONE],
    "a detail (FastAPI)": [HELLO, {"detail": "boom"}, STOP, DONE],
    "a message": [HELLO, {"message": "boom"}, STOP, DONE],
    "busy": [HELLO, {"error": {"message": "boom", "code": 429}}, DONE],
}


async def test_what_did_not_end_well_is_an_error_that_may_be_tried_again(bench: Bench) -> None:
    await bench.ready()
    for name, parts in (NO_END | ERRORS).items():
        bench.upstream.answer = play(*parts)
        failed = (await bench.ask("hi")).failed
        assert (failed.code, failed.retryable) == ("upstream_failed", True), name
        assert "boom" not in failed.message, name


REASONS = {
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "repetition": "length",
    "content_filter": "content_filter",
}
UNREADABLE: dict[str, list[Any]] = {
    "not UTF-8": [raw(b"ab\xff\xfe"), STOP, DONE],
    "no JSON": [b"data: {oops\n\n", STOP, DONE],
    "a list": [b"data: []\n\n", STOP, DONE],
    "deep": [b"data: {" + b'"x":{' * 100_000 + b"\n\n", STOP],
    "deep where anything may be": [b'data: {"error":' + b"[" * 100_000 + b"\n\n", STOP],
    "endless": [b"data: " + b"x" * 1_200_000, STOP],
    "endless lines": [b"data: x\n" * 200_000, STOP],
    "a choice that nobody asked for": [index(1), STOP, DONE],
    "a choice far beyond": [index(7), STOP, DONE],
    "a choice before the first": [index(-1), STOP, DONE],
    "choices that are none": [{"choices": 3}, STOP, DONE],
    "text that is none": [{"choices": [{"delta": {"content": 3}}]}, STOP, DONE],
    "log probabilities that are none": [{"choices": [{"logprobs": {"content": [3]}}]}, STOP],
    "a reason that nobody knows": [HELLO, chunk(None, "mood\n\x1b[31m"), DONE],
    "a tool without a name": [{"choices": [{"delta": {"tool_calls": [{}]}}]}, DONE],
    "a tool of the old kind": [chunk(None, "function_call"), DONE],
}


async def test_what_cannot_be_read_ends_its_job_alone(bench: Bench) -> None:
    worker = await bench.ready()
    for name, parts in UNREADABLE.items():
        bench.upstream.answer = play(HELLO, *parts)
        failed = (await bench.ask("hi")).failed
        assert (failed.code, failed.retryable) == ("upstream_failed", False), name
        assert failed.message.isprintable(), name
    bench.upstream.answer = play(HELLO, STOP, DONE)
    assert (await bench.ask("hi")).text == "Hello"
    assert not worker.outbox.died.done()


async def test_what_nobody_thought_of_ends_its_job_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(_: Any) -> None:
        raise AttributeError("a defect of ew")

    worker = await bench.ready()
    with monkeypatch.context() as patch:
        patch.setattr(Chunk, "counts", explode)
        assert (await bench.ask("hi")).failed.code == "upstream_failed"
    assert (await bench.ask("hi")).text == "Hello you."
    assert not worker.outbox.died.done()


async def test_a_reason_keeps_its_meaning(bench: Bench) -> None:
    await bench.ready()
    for reason, means in REASONS.items():
        bench.upstream.answer = play(HELLO, chunk(None, reason), STOP, DONE)
        assert (await bench.ask("hi")).done.finish_reasons == (means,), reason


async def test_each_choice_ends_for_a_reason_of_its_own(bench: Bench) -> None:
    both = [index(0), index(1), STOP]
    bench.upstream.answer = play(
        *both, {"choices": [{"index": 1, "finish_reason": "length"}]}, DONE
    )
    await bench.ready()
    assert (await bench.ask("hi", n=2)).done.finish_reasons == ("stop", "length")
    bench.upstream.answer = play(*both, DONE)
    assert (await bench.ask("hi", n=2)).failed.retryable
    bench.upstream.answer = play(index(None), *both, DONE)
    assert not (await bench.ask("hi", n=2)).failed.retryable


async def test_a_server_that_ignores_how_many_choices_are_asked_for_is_named(bench: Bench) -> None:
    """The same request would end the same way."""
    bench.upstream.answer = play(HELLO, STOP, DONE)
    await bench.ready()
    failed = (await bench.ask("hi", n=2)).failed
    assert "gave 1 of 2 choices" in failed.message
    assert not failed.retryable
    bench.upstream.answer = play(HELLO, STOP, EOF)
    assert (await bench.ask("hi", n=2)).failed.retryable


COUNTS: list[tuple[Any, tuple[int, int, int]]] = [
    (USAGE, (5, 3, 0)),
    (dict.fromkeys(USAGE), (0, 1, 0)),
    ({"prompt_tokens": 5.0, "completion_tokens": 3.0}, (5, 3, 0)),
    ({"prompt_tokens": -1, "completion_tokens": "3"}, (0, 1, 0)),
    ({"prompt_tokens": 10**30, "completion_tokens": True}, (0, 1, 0)),
    ({**USAGE, "prompt_tokens_details": {"cached_tokens": 2.0}}, (5, 3, 2)),
    ({**USAGE, "prompt_tokens_details": [], "completion_tokens_details": []}, (5, 3, 0)),
    ([], (0, 1, 0)),
]


async def test_counts_are_taken_where_they_are_counts(bench: Bench) -> None:
    await bench.ready()
    for usage, counted in COUNTS:
        bench.upstream.answer = play({**HELLO, "usage": "none"}, STOP, {"usage": usage})
        done = (await bench.ask("hi")).done
        assert (done.prompt_tokens, done.completion_tokens, done.cached_tokens) == counted, usage


@pytest.mark.parametrize(("kind", "counted"), [("vllm", 7), ("llamacpp", 11)])
async def test_llama_cpp_counts_each_choice_for_itself(
    bench: Bench, kind: str, counted: int
) -> None:
    ends = [
        {"choices": [{"index": index, "delta": {}, "finish_reason": "stop"}]} for index in (0, 1)
    ]
    counts = [
        {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": tokens}}
        for tokens in (4, 7)
    ]
    bench.upstream.answer = play(ends[0], counts[0], ends[1], counts[1], DONE)
    await bench.ready(engine_args={"server": kind})
    done = (await bench.ask("hi", n=2)).done
    assert (done.prompt_tokens, done.completion_tokens) == (9, counted)


async def test_a_stream_that_was_compressed_all_the_same_is_read(bench: Bench) -> None:
    async def compresses(exchange: Exchange) -> None:
        await exchange.begin(200, "Content-Encoding: gzip")
        await exchange.send(gzip.compress(data(HELLO) + data(STOP) + DONE))
        await exchange.end()

    bench.upstream.answer = compresses
    await bench.ready()
    assert (await bench.ask("hi")).text == "Hello"


async def test_a_stream_that_only_says_to_be_compressed_is_broken(bench: Bench) -> None:
    async def lies(exchange: Exchange) -> None:
        await exchange.begin(200, "Content-Encoding: gzip")
        await exchange.send(data(HELLO))
        await exchange.end()

    bench.upstream.answer = lies
    worker = await bench.ready()
    assert (await bench.ask("hi")).failed.retryable
    assert not worker.outbox.died.done()


DOCUMENTS = [
    ('{"choices": [{"message": {"content": "Hello"}}]}', "application/json", False),
    ('{"error": {"message": "overloaded", "code": 503}}', "application/json", True),
    ("<html>sign in</html>", "text/html; charset=utf-8", False),
    ("[" * 100_000, "application/json", False),
]


async def test_a_document_is_no_stream(bench: Bench) -> None:
    await bench.ready()
    for body, kind, retryable in DOCUMENTS:
        bench.upstream.answer = partial(Exchange.reply, body=body, kind=kind)
        failed = (await bench.ask("hi")).failed
        assert (failed.code, failed.retryable) == ("upstream_failed", retryable), kind
        assert "sign in" not in failed.message


@pytest.mark.parametrize("status", [200, 400, 500])
async def test_of_an_endless_error_no_more_is_read_than_is_of_use(
    bench: Bench, status: int
) -> None:
    sent = 0

    async def never_ends(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.begin(status, "Content-Type: application/json")
        while not exchange.left.is_set():
            await exchange.send(b"x" * 65_536)
            sent += 65_536
            await asyncio.sleep(0)

    bench.upstream.answer = never_ends
    await bench.ready()
    failed = (await asyncio.wait_for(bench.ask("hi"), 20)).failed
    assert len(failed.message) <= 1_000
    await asyncio.wait_for(bench.upstream.exchanges[-1].left.wait(), 30)
    # Most of it lies in the buffers of the two sockets.
    assert sent < 64 * 2**20


SECRETS = "key sk-abcdef123456, see http://10.0.0.7:8000/admin\x1b[2J\nERROR forged: line"


async def test_a_servers_own_words_stay_out_of_the_log_and_tell_no_secrets(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    body = json.dumps({"error": {"message": f"bad top_p: {SECRETS}"}})
    await bench.ready()
    for status in (302, 400, 401, 403, 404, 429, 500, 503):
        caplog.clear()
        bench.upstream.answer = partial(Exchange.refuse, status=status, body=body)
        with caplog.at_level(logging.WARNING):
            failed = (await bench.ask("hi")).failed
        assert ("bad top_p" in failed.message) is (status == 400)
        told = [failed.message, *(record.getMessage() for record in caplog.records)]
        assert all(text.isprintable() for text in told)
        assert not any("sk-abc" in text or "10.0.0.7" in text for text in told)
        logged = "\n".join(told[1:])
        assert "bad top_p" not in logged
        assert f"HTTP {status}, {len(body)} bytes" in logged


async def test_a_list_of_models_in_odd_types_is_taken_as_far_as_it_goes(bench: Bench) -> None:
    models: list[Any] = [
        {"id": "up", "owned_by": None, "max_model_len": "8k", "meta": {"n_ctx": 99}},
        {"id": 3, "meta": []},
        None,
    ]
    bench.upstream.models = models
    assert (await bench.ready()).report.max_model_len == 99


def test_events_do_not_depend_on_how_the_stream_is_cut() -> None:
    stream = b"\xef\xbb\xbfdata: a\r\ndata: b\r\r\ndata:c\n\nevent: error\rdata: d\r\rdata: e\n\n"
    whole = EventReader().feed(stream)
    assert [(event.data, event.is_error) for event in whole] == [
        (b"a\nb", False),
        (b"c", False),
        (b"d", True),
        (b"e", False),
    ]
    for cut in range(len(stream)):
        reader = EventReader()
        assert reader.feed(stream[:cut]) + reader.feed(stream[cut:]) == whole


def test_halves_of_different_choices_are_kept_apart() -> None:
    halves = Halves()
    assert [halves.join(0, "\ud83d"), halves.join(1, "\ud83c")] == ["", ""]
    assert halves.join(1, "\udf0d") == "\U0001f30d"
    assert halves.join(0, "\ude00!") == "\U0001f600!"
    assert halves.join(0, "\ud83d") + halves.end(0) + halves.end(0) == "\ufffd"


def test_halves_in_log_probabilities_become_one_sign_each() -> None:
    event = rb'{"choices":[{"logprobs":{"content":[{"token":"\ud83d","logprob":-1.0}]}}]}'
    choices = read_chunk(Event(event)).choices
    assert choices is not None
    found = choices[0].token_logprobs(alternatives=None)
    assert found is not None
    # The token itself is the only alternative if none is asked for.
    assert found == (TokenLogprob("\ufffd", -1.0, (("\ufffd", -1.0),)),)


@pytest.mark.parametrize("written", ["null", "-Infinity"])
def test_what_a_constraint_rules_out_has_the_least_log_probability(written: str) -> None:
    """SGLang's server writes null for minus infinity, and Python's json a word of its own."""
    chat = '{"content":[{"token":"a","logprob":-0.5,"top_logprobs":[{"token":"b","logprob":X}]}]}'
    text = '{"tokens":["a"],"token_logprobs":[-0.5],"top_logprobs":[{"b":X}]}'
    for logprobs in (chat, text):
        event = f'{{"choices":[{{"logprobs":{logprobs.replace("X", written)}}}]}}'
        (choice,) = read_chunk(Event(event.encode())).choices or ()
        assert choice.token_logprobs(alternatives=1) == (
            TokenLogprob("a", -0.5, (("b", -9_999.0),)),
        )


def test_a_number_that_is_none_is_refused() -> None:
    with pytest.raises(UpstreamFailed):
        read_chunk(Event(b'{"choices":[{"logprobs":{"tokens":["a"],"token_logprobs":[NaN}]}'))
