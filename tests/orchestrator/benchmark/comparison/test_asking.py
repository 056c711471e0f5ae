"""The requests that a comparison sends, told by a server that writes them down."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.benchmark.comparison.asking import Comparison
from orchestrator.benchmark.comparison.prompts import own_requests, read_requests
from orchestrator.benchmark.load_test import ServerUnderTest
from orchestrator.benchmark.sender_task import Endpoint
from orchestrator.errors import UserError

SETTINGS = {"max_tokens": 8, "temperature": 0, "seed": 3, "n": 1, "stream": True}


class Upstream:
    """Answers as its model's name says: `plain` refuses logprobs, `gone` all, `odd` by turns."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self._odd = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := (await reader.readuntil(b"\r\n\r\n")).decode():
            length = next(
                int(line.split(": ")[1])
                for line in head.splitlines()
                if line.startswith("Content-Length")
            )
            body = json.loads(await reader.readexactly(length))
            self.heads.append(head)
            self.asked.append(body)
            status, kind, content = self.answer(body)
            writer.write(
                f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\n"
                f"Content-Length: {len(content)}\r\n\r\n".encode()
                + content
            )
            await writer.drain()

    def answer(self, body: dict[str, Any]) -> tuple[int, str, bytes]:
        model = body["model"]
        self._odd += model == "odd"
        if model == "gone" or (model == "odd" and self._odd % 2 == 0):
            return 503, "application/json", b'{"error": {"message": "not now"}}'
        if model == "plain" and "logprobs" in body:
            return 400, "application/json", b'{"error": {"message": "no logprobs here"}}'
        token = {"token": "hi", "logprob": -0.5, "bytes": [104, 105]}
        logprobs = {"content": [token]} if "logprobs" in body else None
        chunk = {"delta": {"content": "hi"}, "logprobs": logprobs, "finish_reason": "stop"}
        event = json.dumps({"choices": [chunk]}).encode()
        return 200, "text/event-stream", b"data: %b\n\ndata: [DONE]\n\n" % event


@pytest.fixture
async def upstream() -> AsyncIterator[tuple[Upstream, str]]:
    found = Upstream()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await found.serve(reader, writer)
        except asyncio.IncompleteReadError:
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield found, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


def comparison(url: str, a: str, b: str, *, logprobs: bool = True) -> Comparison:
    servers = [ServerUnderTest("ew", Endpoint.of(url, "k"), model) for model in (a, b)]
    return Comparison(servers, lambda _: None, logprobs=logprobs)


async def test_both_are_asked_the_same_and_take_turns_at_going_first(
    upstream: tuple[Upstream, str],
) -> None:
    server, url = upstream
    asking = comparison(url, "a", "b")
    requests = own_requests(SETTINGS)[:4]
    await asking.run(requests, 1)
    assert [body["model"] for body in server.asked] == [
        "a",
        "b",
        "a",
        "b",
        "b",
        "a",
        "a",
        "b",
        "b",
        "a",
    ]
    for number, request in enumerate(requests):
        for body in server.asked[2 + 2 * number : 4 + 2 * number]:
            assert body["messages"] == request.body["messages"]
            assert (body["temperature"], body["seed"], body["max_tokens"]) == (0, 3, 8)
    # No `split` or `fallback` of ew's has another model answer.
    assert all("X-EW-Route: none" in head for head in server.heads)
    assert [(pair.is_same, pair.logprob_differences()) for pair in asking.pairs] == [
        (True, [0])
    ] * 4
    assert asking.without_logprobs() == []


async def test_who_refuses_logprobs_is_asked_without_and_named(
    upstream: tuple[Upstream, str],
) -> None:
    server, url = upstream
    asking = comparison(url, "a", "plain")
    await asking.run(own_requests(SETTINGS)[:2], 2)
    assert asking.without_logprobs() == ["plain"]
    assert all(not pair.b.error and pair.is_same for pair in asking.pairs)
    assert all("logprobs" in body for body in server.asked if body["model"] == "a")
    unasked = comparison(url, "a", "a", logprobs=False)
    server.asked.clear()
    await unasked.run(own_requests(SETTINGS)[:1], 1)
    assert not any("logprobs" in body for body in server.asked)
    assert unasked.without_logprobs() == []


async def test_errors_are_counted_but_a_model_that_is_not_there_is_named(
    upstream: tuple[Upstream, str],
) -> None:
    _, url = upstream
    asking = comparison(url, "a", "odd")
    await asking.run(own_requests(SETTINGS)[:4], 1)
    assert [pair.b.error for pair in asking.pairs] == ["503: not now", "", "503: not now", ""]
    with pytest.raises(UserError, match="does not answer for `gone`: 503: not now"):
        await comparison(url, "a", "gone").run(own_requests(SETTINGS), 1)
    with pytest.raises(UserError, match=r"does not answer for `a`: .*Connect call failed"):
        await comparison("http://127.0.0.1:1/v1", "a", "a").run(own_requests(SETTINGS), 1)


def test_prompts_of_files(tmp_path: Path) -> None:
    texts = tmp_path / "prompts.txt"
    texts.write_text("one\n\ntwo\n")
    assert [each.words for each in read_requests(texts, SETTINGS)] == ["one", "two"]
    recorded = tmp_path / "recorded.jsonl"
    bodies = [
        {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, "temperature": 1},
        {"prompt": "say"},
    ]
    urls = ["/v1/chat/completions", "/v1/completions"]
    lines = [json.dumps({"url": url, "body": body}) for url, body in zip(urls, bodies, strict=True)]
    recorded.write_text("\n".join(lines))
    chat, completion = read_requests(recorded, SETTINGS)
    assert (chat.body["max_tokens"], chat.body["temperature"], chat.body["seed"]) == (5, 0, 3)
    assert (completion.path, completion.words, completion.body["max_tokens"]) == (
        "/completions",
        "say",
        8,
    )


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("p.txt", "\n\n", "has no prompts"),
        ("p.jsonl", '{"body": {"prompt": "x"}}', "to /chat/completions has no prompt"),
        ("p.jsonl", '{"url": "/v1/embeddings", "body": {"input": "x"}}', "to `/embeddings`"),
        ("p.jsonl", "hello", "line 1"),
    ],
)
def test_a_file_without_prompts_is_refused(
    tmp_path: Path, name: str, content: str, said: str
) -> None:
    file = tmp_path / name
    file.write_text(content)
    with pytest.raises(UserError, match=said):
        read_requests(file, SETTINGS)
    with pytest.raises(UserError, match="No such file"):
        read_requests(tmp_path / "none.txt", SETTINGS)
