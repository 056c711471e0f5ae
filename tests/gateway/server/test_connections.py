"""One connection: pipelined requests, trailers, offers, and half an end."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import struct
import subprocess
from collections.abc import Callable
from typing import Any

import httpx
import psutil
import pytest

from gateway.server.http_guard import MAX_PIPELINED
from tests.gateway.conftest import Gateway
from tests.gateway.raw import answers_in, connect, context, read_to_end, request
from tests.gateway.scripted_worker import ScriptedWorker

INFER = "/api/v1/inference"
STREAM = "/api/v1/inference/stream"


def ask(model: str) -> dict[str, str]:
    return {"modelId": model, "prompt": "x"}


async def test_pipelined_requests_beyond_the_bound_end_the_connection(
    gateway: Gateway, worker: ScriptedWorker, model: str
) -> None:
    asked = request(gateway, STREAM, ask(model)) + request(gateway, "/api/v1/models") * 500
    reading = asyncio.create_task(asyncio.to_thread(context, gateway, asked))
    await worker.answer("a", "b")
    first, *others = answers_in(await reading)
    assert first.body.count(b"data: ") == 3
    assert [answer.status for answer in others] == [200] * MAX_PIPELINED
    assert b"connection: close" in others[-1].head


def test_without_a_key_no_more_requests_are_queued(gateway: Gateway) -> None:
    asked = b"GET /api/v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n" * 5000
    answers = answers_in(context(gateway, asked))
    assert [answer.status for answer in answers] == [401] * (MAX_PIPELINED + 1)


def test_pipelined_requests_within_the_bound_are_all_answered(gateway: Gateway) -> None:
    asked = request(gateway, "/health/live") * (MAX_PIPELINED - 1)
    last = request(gateway, "/health/live", Connection="close")
    assert len(answers_in(context(gateway, asked + last))) == MAX_PIPELINED


async def test_what_is_wrong_with_a_queued_request_is_said_in_its_turn(
    gateway: Gateway, worker: ScriptedWorker, model: str
) -> None:
    broken = b"POST /api/v1/inference HTTP/1.1\r\nHost: localhost\r\n"
    broken += b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n"
    asked = request(gateway, STREAM, ask(model)) + broken
    reading = asyncio.create_task(asyncio.to_thread(context, gateway, asked))
    await worker.answer("a")
    first, second = answers_in(await reading)
    assert first.body.count(b"data: ") == 2
    assert (second.status, second.json["code"]) == (400, "bad_http")


@pytest.mark.parametrize("nonsense", [b"\x16\x03\x01", b"GET /health/live HTTP/1.1\r\n\r\n"])
async def test_nonsense_behind_a_request_does_not_cut_its_answer(
    gateway: Gateway, worker: ScriptedWorker, model: str, nonsense: bytes
) -> None:
    asked = request(gateway, STREAM, ask(model)) + nonsense
    reading = asyncio.create_task(asyncio.to_thread(context, gateway, asked))
    await worker.answer("a")
    (only,) = answers_in(await reading)
    assert only.body.count(b"data: ") == 2


async def test_a_client_that_leaves_with_requests_queued_frees_the_worker(
    gateway: Gateway, worker: ScriptedWorker, model: str
) -> None:
    with connect(gateway) as connection:
        asked = request(gateway, INFER, ask(model)) + request(gateway, "/health/live") * 3
        connection.sendall(asked)
        attempt = await worker.start()
    await worker.wait_for_cancellation(attempt.job.id, 2)


def test_what_comes_behind_a_chunked_body_is_no_header(gateway: Gateway) -> None:
    head = b"POST /api/v1/inference HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    key = gateway.key.text.encode()
    trailers = b"X-API-Key: %b\r\nX-Request-Id: mine\r\n" % key
    following = b"GET /api/v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    asked = head + b"\r\n2\r\n{}\r\n0\r\n" + trailers + b"\r\n" + following
    answers = answers_in(context(gateway, asked))
    assert [answer.status for answer in answers] == [401, 401]
    assert b"mine" not in b"".join(answer.head for answer in answers)


def test_trailers_are_bounded_as_heads_are(gateway: Gateway) -> None:
    head = b"POST /api/v1/inference HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    key = b"X-API-Key: %b\r\n" % gateway.key.text.encode()
    for trailers in (b"A: %b\r\n" % (b"x" * 8000) * 4, b"A: " + b"x" * 100_000):
        body = b"2\r\n{}\r\n0\r\n"
        (answer,) = answers_in(context(gateway, head + key + b"\r\n", body, trailers, pause_s=0.1))
        assert (answer.status, answer.json["code"]) == (431, "head_too_large")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /health/live HTTP/1.1\r\n", 400),
        (b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n", 400),
        (b"GET /health/live HTTP/1.0\r\n", 200),
        (b"GET /health/live HTTP/1.0\r\nHost: a\r\nHost: b\r\n", 400),
        (
            b"POST /api/v1/inference HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
            + b"0" * 5000
            + b"2\r\n",
            400,
        ),
        (b"CONNECT localhost:443 HTTP/1.1\r\nHost: localhost\r\n", 405),
    ],
)
def test_heads_against_the_rules_are_refused(gateway: Gateway, head: bytes, status: int) -> None:
    (answer,) = answers_in(context(gateway, head + b"Connection: close\r\n\r\n"))
    assert answer.status == status
    if status == 400:
        assert answer.json["code"] == "bad_http"


@pytest.mark.parametrize("path", ["/v1/models/", "/api/v1/models/", "/health/live/", "/docs/"])
def test_a_slash_too_many_is_not_redirected(gateway: Gateway, path: str) -> None:
    key = {"X-API-Key": gateway.key.text}
    for host, statuses in (("localhost", {404}), ("evil.example", {404, 421})):
        response = httpx.get(gateway.url + path, headers={**key, "Host": host})
        assert response.status_code in statuses
        assert "location" not in response.headers
    response = httpx.get(gateway.url + "/health/live/")
    assert "no slash at their end" in response.text


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_an_offer_of_http_2_is_declined_and_the_request_answered(
    gateway: Gateway, worker: ScriptedWorker, model: str
) -> None:
    command = ["curl", "-sS", "--http2", "--max-time", "20", gateway.url + INFER]
    command += ["-H", f"X-API-Key: {gateway.key.text}", "--data", json.dumps(ask(model))]
    asking = asyncio.create_task(
        asyncio.to_thread(subprocess.run, command, capture_output=True, check=True)
    )
    await worker.answer("a")
    assert json.loads((await asking).stdout)["text"] == "a"


def test_an_offer_costs_no_request_behind_it(gateway: Gateway) -> None:
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2_Settings": "AAMA"}
    first = request(gateway, INFER, {"modelId": "nowhere", "prompt": "x"}, **offer)
    second = request(gateway, "/api/v1/models", Connection="Upgrade", Upgrade="websocket")
    last = request(gateway, "/health/live", Connection="close")
    # In small pieces, too: a parser is fed what happens to come.
    whole = first + second + last
    for pieces in ([whole], [whole[i : i + 7] for i in range(0, len(whole), 7)]):
        answers = answers_in(context(gateway, *pieces))
        assert [answer.status for answer in answers] == [404, 200, 200]
        assert answers[0].json["code"] == "model_not_found"


@pytest.mark.parametrize("path", [INFER, STREAM])
async def test_a_client_that_ends_its_half_gets_its_answer(
    gateway: Gateway, worker: ScriptedWorker, model: str, path: str
) -> None:
    with connect(gateway) as connection:
        connection.sendall(request(gateway, path, ask(model)))
        connection.shutdown(socket.SHUT_WR)
        attempt = await worker.start()
        # The gateway answers these after it has read the end of the other connection.
        for text in ("a", "b"):
            assert await asyncio.to_thread(gateway.answers, "/health/live")
            await worker.delta(attempt, text)
        await worker.done(attempt)
        answers = answers_in(await asyncio.to_thread(read_to_end, connection))
    *interim, answer = answers
    assert [each.status for each in interim] == [100]
    assert answer.status == 200
    assert b"a" in answer.body
    assert b"stop" in answer.body
    assert b"connection: close" in answer.head
    assert not worker.cancelled


@pytest.mark.parametrize("path", [INFER, STREAM])
@pytest.mark.parametrize("says", [0, 1])
async def test_a_client_that_is_gone_is_not_taken_for_one_that_waits(
    gateway: Gateway, worker: ScriptedWorker, model: str, path: str, says: int
) -> None:
    with connect(gateway) as connection:
        connection.sendall(request(gateway, path, ask(model)))
        attempt = await worker.start()
        if says:
            await worker.delta(attempt, "a")
        if says and path == STREAM:
            assert await asyncio.to_thread(connection.recv, 65536)
    await worker.wait_for_cancellation(attempt.job.id, 2)


async def test_a_connection_that_is_reset_frees_the_worker(
    gateway: Gateway, worker: ScriptedWorker, model: str
) -> None:
    connection = connect(gateway)
    connection.sendall(request(gateway, INFER, ask(model)))
    attempt = await worker.start()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    await worker.wait_for_cancellation(attempt.job.id, 2)


def test_half_a_body_is_no_request(gateway: Gateway) -> None:
    with connect(gateway) as connection:
        connection.sendall(request(gateway, INFER, ask("m0"))[:-3])
        connection.shutdown(socket.SHUT_WR)
        (answer,) = answers_in(read_to_end(connection))
    assert (answer.status, answer.json["code"]) == (400, "incomplete_body")


def test_connections_are_bounded(new_gateway: Callable[..., Gateway], own_valkey: Any) -> None:
    gateway = new_gateway(own_valkey.url, gateway={"processes": 1, "max_connections": 16})
    held = [connect(gateway) for _ in range(16)]
    try:
        (answer,) = answers_in(context(gateway, b""))
        assert (answer.status, answer.json["code"]) == (503, "too_many_connections")
        assert b"retry-after" in answer.head
        held.pop().close()
        gateway.wait_until(
            lambda: context(
                gateway, request(gateway, "/health/live", Connection="close")
            ).startswith(b"HTTP/1.1 200"),
            10,
        )
    finally:
        for connection in held:
            connection.close()


def _accepted(pid: int) -> set[int]:
    """Return the ports of clients whose connections a process has taken."""
    found = psutil.Process(pid).net_connections("tcp")
    return {each.raddr.port for each in found if each.raddr}


def test_who_has_just_connected_when_the_gateway_stops_is_answered(
    new_gateway: Callable[..., Gateway], own_valkey: Any
) -> None:
    gateway = new_gateway(own_valkey.url)
    with connect(gateway) as connection:
        assert gateway.process is not None
        port = connection.getsockname()[1]
        gateway.wait_until(lambda: port in _accepted(gateway.process.pid), 40)
        gateway.process.terminate()
        gateway.wait_until(lambda: not gateway.answers("/health/live"), 40)
        connection.sendall(request(gateway, "/health/live"))
        (answer,) = answers_in(read_to_end(connection))
        assert answer.status == 200
    assert gateway.stop() == 0
