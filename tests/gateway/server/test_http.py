"""Headers of every answer, and requests that are refused before any queue."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi.openapi.models import OpenAPI

from contract.messages import ErrorCode, Started
from gateway.api.native.schemas import ErrorBody, InferenceAnswer
from gateway.api.openai.bodies import ChatCompletion, OpenAIErrorBody
from gateway.http.error_answers import anthropic_body, native_body, openai_body
from gateway.http.errors import FAULTS, ApiError
from gateway.server import http_guard
from gateway.server.docs import VENDORED
from gateway.server.http_rules import MAX_HEAD_BYTES, MAX_HEADERS
from gateway.streams import sse
from tests.gateway.conftest import Gateway, client_of
from tests.gateway.raw import context
from tests.gateway.scripted_worker import ScriptedWorker

INFER = "/api/v1/inference"


def assert_common_headers(headers: httpx.Headers) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", headers["x-request-id"])
    assert float(headers["x-response-time"]) >= 0
    assert re.fullmatch(r"queue;dur=[\d.]+, first;dur=[\d.]+", headers["server-timing"])
    assert headers["x-content-type-options"] == "nosniff"
    assert "no-store" in headers["cache-control"]
    assert "server" not in headers


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/health/live", 200, None),
        ("HEAD", "/health/live", 200, None),
        ("HEAD", "/v1/models", 200, None),
        ("GET", "/version", 200, None),
        ("HEAD", "/v1/chat/completions", 405, None),
        ("GET", "/api/v1/models", 200, None),
        ("GET", "/metrics", 200, None),
        ("GET", "/openapi.json", 200, None),
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/v1/nowhere", 404, "not_found"),
        ("GET", INFER, 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("POST", INFER, 400, "invalid_json"),
        ("POST", "/v1/chat/completions", 400, "invalid_json"),
    ],
)
async def test_every_answer_has_its_headers_and_every_error_its_code(
    client: httpx.AsyncClient, method: str, path: str, status: int, code: str | None
) -> None:
    response = await client.request(method, path)
    assert response.status_code == status
    assert_common_headers(response.headers)
    if code is not None:
        body = response.json()
        if path.startswith("/v1/"):
            OpenAIErrorBody.model_validate(body)
            assert body["error"]["code"] == code
        else:
            assert ErrorBody.model_validate(body).request_id == response.headers["x-request-id"]
            assert body["code"] == code


async def test_a_request_id_is_echoed_if_it_can_do_no_harm(client: httpx.AsyncClient) -> None:
    for good in ("a", "Req_42-x", "x" * 64):
        response = await client.get("/health/live", headers={"X-Request-Id": good})
        assert response.headers["x-request-id"] == good
    for bad in ("", "x" * 65, "a b", "a;b", "<script>"):
        response = await client.get("/health/live", headers={"X-Request-Id": bad})
        assert response.headers["x-request-id"] != bad
        assert_common_headers(response.headers)


async def test_timing_headers_tell_queue_and_first_token(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    body = {"modelId": model, "prompt": "x"}
    asking = asyncio.create_task(client.post(INFER, json=body))
    attempt = await worker.next()
    await asyncio.sleep(0.1)
    await worker.say(attempt, Started())
    # Replies come in one stream: with this answer the gateway has read what came before it.
    another = asyncio.create_task(client.post(INFER, json=body))
    await worker.answer("b")
    await another
    await asyncio.sleep(0.1)
    await worker.delta(attempt, "a")
    await worker.done(attempt)
    headers = (await asking).headers
    queue, first = (float(part.split("=")[1]) for part in headers["server-timing"].split(","))
    assert 100 <= queue <= first - 100
    assert first <= float(headers["x-response-time"])


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"topP": 0}, "topP"),
        ({"topK": -2}, "topK"),
        ({"minP": 1.1}, "minP"),
        ({"maxTokens": 0}, "maxTokens"),
        ({"maxTokens": 1001}, "maxTokens"),
        ({"maxTokens": 1.5}, "maxTokens"),
        ({"maxTokens": 10**30}, "maxTokens"),
        ({"minTokens": -1}, "minTokens"),
        ({"minTokens": 5, "maxTokens": 4}, "minTokens"),
        ({"presencePenalty": 3}, "presencePenalty"),
        ({"repetitionPenalty": 0}, "repetitionPenalty"),
        ({"seed": 2**63}, "seed"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": ["x" * 65]}, "stop[0]"),
        ({"stop": ""}, "stop[0]"),
        ({"n": 2}, "n"),
        ({"max_tokens": 5}, "max_tokens"),
        ({"ignoreEos": 1}, "ignoreEos"),
        ({"regex": "x" * 8193}, "regex"),
        ({"choices": []}, "choices"),
        ({"jsonSchema": [1]}, "jsonSchema"),
        ({"jsonSchema": {"maximum": 10**30}}, "jsonSchema"),
        ({"jsonSchema": {"a": "x" * 65_536}}, "jsonSchema"),
        ({"regex": "a", "grammar": "b"}, "grammar"),
        ({"modelId": 7}, "modelId"),
        ({"messages": [{"role": "user", "content": "x"}]}, None),
        ({"prompt": ""}, "prompt"),
        ({"prompt": None}, None),
        ({"prompt": None, "messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
        ({"prompt": None, "messages": []}, "messages"),
    ],
)
async def test_what_is_out_of_bounds_is_refused_by_name(
    client: httpx.AsyncClient, model: str, given: dict[str, Any], field: str | None
) -> None:
    response = await client.post(INFER, json={"modelId": model, "prompt": "x", **given})
    assert response.status_code == 422, response.text
    body = response.json()
    assert body["code"] == "invalid_request"
    assert body.get("field") == field


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]x",
        b'{"modelId": "m0", "prompt": "\\ud800"}',
        b"[" * 5000,
        b'{"modelId": "m0", "prompt": "x", "temperature": NaN}',
        b'{"modelId": "m0", "prompt": "x", "temperature": Infinity}',
        b'{"modelId": "m0", "prompt": "x", "jsonSchema": ' + b'{"a":' * 40 + b"1" + b"}" * 41,
        b"\xff\xfe",
        b"null",
    ],
)
async def test_a_broken_body_is_refused_without_harm(
    client: httpx.AsyncClient, body: bytes
) -> None:
    for path in (INFER, "/v1/completions"):
        response = await client.post(path, content=body)
        assert response.status_code in (400, 422), response.text


async def test_what_was_sent_is_never_in_an_error(client: httpx.AsyncClient, model: str) -> None:
    secret = "my-secret-prompt"
    for given in ({"temperature": secret}, {"stop": {secret: 1}}, {"messages": secret}):
        body = {"modelId": model, "prompt": secret, **given}
        assert secret not in (await client.post(INFER, json=body)).text


async def test_a_body_over_the_limit_is_refused(client: httpx.AsyncClient, model: str) -> None:
    body = {"modelId": model, "prompt": "x" * 100_001}
    response = await client.post(INFER, json=body)
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
    assert_common_headers(response.headers)

    async def chunks() -> Any:
        for _ in range(101):
            yield b"x" * 1000

    response = await client.post(INFER, content=chunks())
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")


async def test_a_body_may_be_packed_and_is_no_larger_for_it(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    def send(content: bytes, encoding: str) -> Any:
        return client.post(INFER, content=content, headers={"Content-Encoding": encoding})

    body = json.dumps({"modelId": model, "prompt": "x"}).encode()
    for content, encoding in ((gzip.compress(body), "GZip"), (body, "identity")):
        asking = asyncio.create_task(send(content, encoding))
        assert (await worker.answer("a")).job.messages is not None
        assert (await asking).status_code == 200
    refused = await send(body, "br")
    assert (refused.status_code, refused.json()["code"]) == (415, "unsupported_encoding")
    assert refused.headers["accept-encoding"] == "gzip, identity"
    bomb = await send(gzip.compress(b" " * 100_001), "gzip")
    assert (bomb.status_code, bomb.json()["code"]) == (413, "body_too_large")
    for bad in (body, gzip.compress(body)[:-9], gzip.compress(body) * 2):
        response = await send(bad, "gzip")
        assert (response.status_code, response.json()["code"]) == (400, "bad_encoding")


@pytest.mark.parametrize(
    "head",
    [
        b"GET /health/live HTTP/1.1\r\nX-Long: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n",
        b"GET /health/live HTTP/1.1\r\nX-Long: " + b"x" * 4_000_000,
        b"GET /health/live?" + b"x" * MAX_HEAD_BYTES + b" HTTP/1.1\r\n\r\n",
        b"GET /health/live HTTP/1.1\r\n" + b"A: b\r\n" * (MAX_HEADERS + 1) + b"\r\n",
    ],
)
def test_a_head_over_the_limits_is_refused(gateway: Gateway, head: bytes) -> None:
    answer = context(gateway, head)
    status, _, rest = answer.partition(b"\r\n")
    assert status.startswith(b"HTTP/1.1 431 "), answer[:200]
    headers, _, body = rest.partition(b"\r\n\r\n")
    assert b"connection: close" in headers
    assert b"x-request-id: " in headers
    assert json.loads(body)["code"] == "head_too_large"


def test_a_head_within_the_limits_is_not(gateway: Gateway) -> None:
    head = b"GET /health/live HTTP/1.1\r\nConnection: close\r\nHost: localhost\r\n"
    head += b"A: %b\r\n" % (b"x" * 200) * 60 + b"\r\n"
    assert context(gateway, *(head[i : i + 1000] for i in range(0, len(head), 1000))).startswith(
        b"HTTP/1.1 200"
    )


def test_what_is_not_http_is_refused(gateway: Gateway) -> None:
    for nonsense in (b"\x16\x03\x01 hello\r\n\r\n", b"GET http:// HTTP/9.9\r\n\r\n"):
        answer = context(gateway, nonsense)
        assert answer.startswith(b"HTTP/1.1 400"), answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "bad_http"


def test_a_body_of_two_lengths_is_refused(gateway: Gateway) -> None:
    answer = context(
        gateway,
        b"POST /api/v1/inference HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    )
    assert answer.startswith(b"HTTP/1.1 400"), answer


def test_a_head_that_drips_is_given_ten_seconds(
    new_gateway: Callable[..., Gateway], redis_url: str
) -> None:
    assert http_guard.HEAD_DEADLINE_S == 10
    gateway = new_gateway(redis_url, constants={"gateway.server.http_guard.HEAD_DEADLINE_S": 0.5})
    pieces = [b"GET /health/live HTTP/1.1\r\n", *[b"A: b\r\n"] * 12]
    answer = context(gateway, *pieces, pause_s=0.1)
    assert answer.startswith(b"HTTP/1.1 408"), answer


async def test_after_ten_silent_seconds_a_comment_keeps_the_connection(
    new_gateway: Callable[..., Gateway], redis_url: str, unique_model: str
) -> None:
    assert sse.HEARTBEAT_EVERY_S == 10
    gateway = new_gateway(
        redis_url,
        constants={"gateway.streams.reply.HEARTBEAT_EVERY_S": 0.5},
        models={unique_model: {"engine": "mock", "model_path": "none"}},
    )
    body = {"modelId": unique_model, "prompt": "x"}
    async with ScriptedWorker(redis_url, unique_model) as worker, client_of(gateway) as client:
        asking = client.stream("POST", f"{INFER}/stream", json=body)
        starting = asyncio.create_task(worker.start())
        async with asking as response:
            parts = response.aiter_bytes()
            text = await anext(parts)
            attempt = await starting
            await worker.delta(attempt, "a")
            await worker.done(attempt)
            async for part in parts:
                text += part
    assert re.match(rb'(: heartbeat\n)+id: 0\ndata: {"text":"a"}\n\n', text)


#: One path of each API.
OF_EACH_API = {
    "/api/v1/inference/stream",
    "/api/v1/jobs/{job_id}",
    "/api/v1/admin/status",
    "/v1/chat/completions",
    "/v1/responses/{response_id}",
    "/v1/batches/{batch_id}/cancel",
    "/v1/messages",
    "/tokenize",
    "/health/live",
    "/metrics",
}


def test_the_document_is_valid_and_complete(gateway: Gateway) -> None:
    key = {"X-API-Key": gateway.key.text}
    found = httpx.get(gateway.url + "/openapi.json", headers=key).json()
    OpenAPI.model_validate(found)
    references = set(re.findall(r'"\$ref": ?"#/components/schemas/([^"]+)"', json.dumps(found)))
    assert references <= set(found["components"]["schemas"])
    assert found["security"] == [{"X-API-Key": []}, {"Bearer": []}]
    assert set(found["paths"]) >= OF_EACH_API
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            declared = operation["responses"]
            assert any(status.startswith("2") for status in declared), path
            needed = {"400", "405", "408", "431", "500"}
            if operation.get("security") != []:
                needed |= {"401", "429", "503"}
            asks_a_model = not path.endswith("/cancel") and "/admin/" not in path
            if method == "post" and asks_a_model:
                needed |= {"404", "410", "413", "415", "502", "504"}
                assert "requestBody" in operation
            assert needed <= set(declared), path
            for status, response in declared.items():
                assert status == "204" or response["content"], (path, status)


#: Of anthropic 2.14.0, `types/shared/error_object.py`.
ANTHROPIC_ERRORS = {
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "not_found_error",
    "rate_limit_error",
    "timeout_error",
    "api_error",
    "overloaded_error",
}


def test_every_code_of_the_workers_has_its_status() -> None:
    assert {code.value for code in ErrorCode} <= set(FAULTS)
    for code, fault in FAULTS.items():
        error = ApiError(code, "x")
        ErrorBody.model_validate(native_body(error, "r"))
        OpenAIErrorBody.model_validate(openai_body(error))
        assert anthropic_body(error, "r")["error"]["type"] in ANTHROPIC_ERRORS
        assert 400 <= fault.status < 600
        assert fault.retryable or fault.retry_after_s is None
        assert fault.status != 503 or fault.retry_after_s


async def test_real_answers_are_as_the_document_says(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    message = [{"role": "user", "content": "x"}]
    for path, body, form in (
        (INFER, {"modelId": model, "prompt": "x"}, InferenceAnswer),
        ("/v1/chat/completions", {"model": model, "messages": message}, ChatCompletion),
    ):
        asking = asyncio.create_task(client.post(path, json=body))
        await worker.answer("a")
        form.model_validate_json((await asking).content)


def test_the_page_of_the_document_is_whole_and_only_ours(gateway: Gateway) -> None:
    with httpx.Client(base_url=gateway.url, headers={"X-API-Key": gateway.key.text}) as client:
        page = client.get("/docs")
        policy = page.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert {link for link in links if not link.startswith("/docs/")} == {"data:,"}
        for link in links[1:]:
            answer = client.get(link)
            assert answer.status_code == 200
            name = link.removeprefix("/docs/")
            if name in VENDORED:
                assert hashlib.sha256(answer.content).hexdigest() == VENDORED[name]
        assert client.get("/docs/README.md").status_code == 404
        assert client.get("/docs/..%2Fdocs.py").status_code == 404


@pytest.mark.parametrize("path", ["/health/ready", "/health", "/ping"])
async def test_whoever_asks_whether_it_is_ready_needs_no_key(gateway: Gateway, path: str) -> None:
    async with httpx.AsyncClient(base_url=gateway.url) as nobody:
        got, head = await nobody.get(path), await nobody.head(path)
    assert {got.status_code, head.status_code} <= {200, 503}
    assert got.json()["status"] == ("ready" if got.status_code == 200 else "not_ready")
    assert head.content == b""
    assert head.headers["content-type"] == "application/json"
