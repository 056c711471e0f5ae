"""Which clients are let in, and which are not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from starlette.requests import Request

from contract.config import GatewayConfig
from contract.keys import REVOKED_WITHIN_S, KeyRecord, make_key, read_keys
from contract.process.ports import free_port
from gateway.http import key_store
from gateway.http.auth import Authenticator
from gateway.http.errors import ApiError
from gateway.http.headers import RequestContext
from gateway.http.hosts import Hosts
from gateway.http.key_store import KeyStore
from orchestrator.config.key_file import KeyFile
from tests.gateway.conftest import Gateway
from tests.gateway.scripted_worker import ScriptedWorker
from tests.gateway.sse_client import reading

PAGE = "https://chat.example"
MODELS_PATH = "/api/v1/models"
STREAM = "/api/v1/inference/stream"


@pytest.fixture(scope="module")
def own(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A gateway whose key file these tests change."""
    models = {name: {"engine": "mock", "model_path": "none"} for name in ("llama-1", "qwen-1")}
    gateway = Gateway(tmp_path_factory.mktemp("keys"), redis_url, {"models": models})
    gateway.start()
    yield gateway
    gateway.write_keys(gateway.key)
    assert gateway.stop() == 0


def ask(gateway: Gateway, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.get(gateway.url + MODELS_PATH, headers=named)


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_both_headers_are_understood(own: Gateway) -> None:
    key = own.key.text
    assert ask(own, X_API_Key=key).status_code == 200
    assert ask(own, Authorization=f"Bearer {key}").status_code == 200
    assert ask(own, Authorization=f"bearer {key}").status_code == 200
    assert ask(own, X_API_Key=key, Authorization=f"Bearer {key}").status_code == 200


def test_two_different_keys_are_refused(own: Gateway) -> None:
    response = ask(own, X_API_Key=own.key.text, Authorization="Bearer ew_other")
    assert (response.status_code, response.json()["code"]) == (400, "conflicting_api_keys")


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic eDp5"}, {"X_API_Key": ""}])
def test_no_key_no_answer(own: Gateway, headers: dict[str, str]) -> None:
    response = ask(own, **headers)
    assert (response.status_code, response.json()["code"]) == (401, "missing_api_key")
    assert response.headers["www-authenticate"] == "Bearer"


def test_unknown_expired_and_revoked_keys_look_the_same(own: Gateway) -> None:
    unknown, expired, revoked = make_key(), make_key(expires_unix_s=time.time() - 1), make_key()
    gone = msgspec.structs.replace(revoked.record, revoked_unix_s=time.time() - 1)
    good = make_key("new")
    own.write_keys(own.key, expired, gone, good)
    assert within(20, lambda: ask(own, X_API_Key=good.text).status_code == 200)
    bodies = []
    for key in (unknown.text, expired.text, revoked.text, "nonsense", "ew_" + "x" * 5000):
        response = ask(own, X_API_Key=key)
        assert response.status_code == 401
        bodies.append({**response.json(), "requestId": ""})
    assert all(body == bodies[0] for body in bodies)


def test_a_new_key_opens_at_once(own: Gateway) -> None:
    known = [own.key]
    for number in range(20):
        known.append(make_key(f"new {number}"))
        own.write_keys(*known)
        assert ask(own, X_API_Key=known[-1].text).status_code == 200


def test_a_wrong_key_costs_a_look_at_the_file_and_no_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keys.json"
    ring = KeyStore(path)
    reads = []

    def read(path: Path) -> dict[str, KeyRecord]:
        reads.append(path)
        return read_keys(path)

    monkeypatch.setattr(key_store, "read_keys", read)
    assert not any(ring.find(make_key().text) for _ in range(100))
    assert reads == []
    KeyFile(path).add("bob")
    assert not any(ring.find("no key at all") for _ in range(100))
    assert not any(ring.find(make_key().text) for _ in range(100))
    assert reads == [path]


def test_a_revoked_key_is_refused_within_a_second(own: Gateway) -> None:
    key = make_key("soon gone")
    own.write_keys(own.key, key)
    assert within(20, lambda: ask(own, X_API_Key=key.text).status_code == 200)
    own.write_keys(own.key, msgspec.structs.replace(key.record, revoked_unix_s=time.time()))
    # On a machine that has nothing else to do.
    assert within(10 * REVOKED_WITHIN_S, lambda: ask(own, X_API_Key=key.text).status_code == 401)
    assert ask(own, X_API_Key=own.key.text).status_code == 200


def test_an_unreadable_key_file_lets_nobody_in_and_says_so(own: Gateway) -> None:
    path = own.directory / "keys.json"
    for harm in (lambda: path.chmod(0o644), lambda: path.write_text("[{")):
        harm()
        assert within(20, lambda: ask(own, X_API_Key=own.key.text).status_code == 503)
        response = ask(own, X_API_Key=own.key.text)
        assert response.json()["code"] == "keys_unreadable"
        assert str(path) not in response.text
        assert "retry-after" in response.headers
        ready = httpx.get(own.url + "/health/ready")
        assert "the key file cannot be used" in ready.json()["reasons"]
        own.write_keys(own.key)
        assert within(20, lambda: ask(own, X_API_Key=own.key.text).status_code == 200)
    log = own.log.read_text()
    assert f"chmod 600 {path}" in log
    assert f"{path} is damaged" in log


def test_a_key_sees_only_its_models(own: Gateway) -> None:
    llamas = make_key("llamas", models=("llama-*",))
    own.write_keys(own.key, llamas)
    assert within(20, lambda: ask(own, X_API_Key=llamas.text).status_code == 200)
    headers = {"X-API-Key": llamas.text}
    listed = ask(own, X_API_Key=llamas.text).json()["models"]
    assert [model["id"] for model in listed] == ["llama-1"]
    openai = httpx.get(own.url + "/v1/models", headers=headers).json()["data"]
    assert [model["id"] for model in openai] == ["llama-1"]
    assert httpx.get(own.url + "/v1/models/qwen-1", headers=headers).status_code == 404
    forbidden, unknown = (
        httpx.post(
            own.url + "/api/v1/inference",
            json={"modelId": model, "prompt": "x"},
            headers={**headers, "X-Request-Id": "same"},
        )
        for model in ("qwen-1", "qwen-2")
    )
    assert forbidden.status_code == unknown.status_code == 404
    assert forbidden.text.replace("qwen-1", "qwen-2") == unknown.text


def test_guessing_keys_is_slowed_down_but_hurts_nobody_else(own: Gateway) -> None:
    statuses = [ask(own, X_API_Key="ew_guess").status_code for _ in range(80)]
    assert set(statuses) == {401, 429}
    response = ask(own, X_API_Key="ew_guess")
    if response.status_code == 429:
        assert response.json()["code"] == "too_many_failures"
        assert "retry-after" in response.headers
    assert ask(own, X_API_Key=own.key.text).status_code == 200


def test_every_route_but_the_probes_needs_a_key(gateway: Gateway) -> None:
    key = {"X-API-Key": gateway.key.text}
    document = httpx.get(gateway.url + "/openapi.json", headers=key).json()
    for path, methods in document["paths"].items():
        for method in methods:
            url = gateway.url + path.replace("{model}", "m0")
            response = httpx.request(method, url)
            if path in ("/health/live", "/health/ready"):
                assert response.status_code in (200, 503)
            else:
                assert response.status_code == 401, path


@pytest.mark.parametrize("path", ["/metrics", "/docs", "/openapi.json", "/docs/start.js"])
def test_operators_pages_are_for_keys_that_see_everything(own: Gateway, path: str) -> None:
    some, metrics = make_key("some", models=("llama-*",)), make_key("m", (), metrics=True)
    own.write_keys(own.key, some, metrics)
    assert within(20, lambda: ask(own, X_API_Key=metrics.text).status_code == 200)
    url = own.url + path
    assert httpx.get(url).status_code == 401
    assert httpx.get(url).headers["www-authenticate"].startswith("Basic ")
    assert httpx.get(url, headers={"X-API-Key": some.text}).status_code == 404
    for_metrics = httpx.get(url, headers={"Authorization": f"Bearer {metrics.text}"})
    assert for_metrics.status_code == (200 if path == "/metrics" else 404)
    assert httpx.get(url, headers={"X-API-Key": own.key.text}).status_code == 200
    assert httpx.get(url, auth=("anybody", own.key.text)).status_code == 200
    assert httpx.get(url, auth=("anybody", "wrong")).status_code in (401, 429)


def test_a_password_opens_nothing_else(own: Gateway) -> None:
    response = httpx.get(own.url + MODELS_PATH, auth=("anybody", own.key.text))
    assert (response.status_code, response.json()["code"]) == (401, "missing_api_key")
    assert response.headers["www-authenticate"] == "Bearer"


def test_a_key_for_metrics_opens_no_model(own: Gateway) -> None:
    metrics = make_key("m", (), metrics=True)
    own.write_keys(own.key, metrics)
    assert within(20, lambda: ask(own, X_API_Key=metrics.text).status_code == 200)
    assert ask(own, X_API_Key=metrics.text).json() == {"models": []}


@pytest.mark.parametrize("processes", [1, 2])
def test_a_second_listener_shows_operators_pages_without_a_key(
    new_gateway: Callable[..., Gateway], own_valkey: Any, processes: int
) -> None:
    port = free_port()
    own = new_gateway(own_valkey.url, gateway={"processes": processes, "admin_port": port})
    for path in ("/metrics", "/docs", "/docs/swagger-ui.css", "/openapi.json"):
        assert httpx.get(f"http://127.0.0.1:{port}{path}").status_code == 200
        assert httpx.get(own.url + path).status_code == 401
        rebound = {"Host": "evil.example"}
        assert httpx.get(f"http://127.0.0.1:{port}{path}", headers=rebound).status_code == 421
    assert httpx.get(f"http://127.0.0.1:{port}{MODELS_PATH}").status_code == 401


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:80", 200),
        ("api.localhost", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:8080", 200),
        ("192.0.2.7", 200),
        ("ew.example", 200),
        ("a.models.example:443", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("models.example", 421),
        ("ew.example@evil.example", 421),
        ("", 421),
    ],
)
def test_a_name_that_nobody_gave_us_is_not_answered(named: Gateway, host: str, status: int) -> None:
    response = ask(named, X_API_Key=named.key.text, Host=host)
    assert response.status_code == status
    if status == 421:
        assert response.json()["code"] == "unknown_host"
        assert "gateway.allowed_hosts" in response.text
    assert httpx.get(named.url + "/health/live", headers={"Host": host}).status_code == 200


@pytest.fixture(scope="module")
def named(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with names."""
    names = {"allowed_hosts": ["ew.example", "*.models.example"], "allowed_origins": [PAGE]}
    config = {"gateway": {"processes": 1, **names}}
    gateway = Gateway(tmp_path_factory.mktemp("named"), redis_url, config)
    gateway.start()
    yield gateway
    assert gateway.stop() == 0


def test_pages_of_named_origins_may_ask_with_a_key(named: Gateway) -> None:
    asks = {"Access-Control-Request-Method": "POST", "Host": "ew.example"}
    asks["Access-Control-Request-Headers"] = "authorization,content-type"
    for origin, status in ((PAGE, 200), ("https://evil.example", 400)):
        headers = {**asks, "Origin": origin}
        response = httpx.options(named.url + "/v1/chat/completions", headers=headers)
        assert response.status_code == status
        allowed = response.headers.get("access-control-allow-origin")
        assert allowed == (PAGE if status == 200 else None)
    assert (
        "authorization"
        in httpx.options(named.url + "/v1/models", headers={**asks, "Origin": PAGE}).headers[
            "access-control-allow-headers"
        ]
    )
    models = ask(named, X_API_Key=named.key.text, Host="ew.example", Origin=PAGE)
    assert models.headers["access-control-allow-origin"] == PAGE
    assert "X-Request-Id" in models.headers["access-control-expose-headers"]
    assert ask(named, Host="ew.example", Origin=PAGE).status_code == 401


def test_beyond_loopback_any_name_will_do_unless_some_are_given() -> None:
    evil = [(b"host", b"evil.example")]
    Hosts("192.0.2.1", []).check(evil)
    with pytest.raises(ApiError):
        Hosts("192.0.2.1", ["ew.example"]).check(evil)


async def test_a_key_that_ends_ends_its_open_answers(
    gateway: Gateway, worker: ScriptedWorker, model: str
) -> None:
    other, body = make_key("soon gone"), {"modelId": model, "prompt": "x"}
    gateway.write_keys(gateway.key, other)
    async with (
        httpx.AsyncClient(base_url=gateway.url, timeout=30) as client,
        AsyncExitStack() as stack,
    ):
        headers = {"X-API-Key": gateway.key.text}
        staying = await stack.enter_async_context(reading(client, STREAM, body, **headers))
        stays = await worker.start()
        headers = {"X-API-Key": other.text}
        assert await asyncio.to_thread(
            within, 20, lambda: ask(gateway, X_API_Key=other.text).status_code == 200
        )
        ends = await stack.enter_async_context(reading(client, STREAM, body, **headers))
        streams = await worker.start()
        whole = asyncio.create_task(client.post("/api/v1/inference", json=body, headers=headers))
        waits = await worker.start()
        await worker.delta(streams, "a")
        await ends.has("a")
        gateway.write_keys(
            gateway.key, msgspec.structs.replace(other.record, revoked_unix_s=time.time())
        )
        # On a machine that has nothing else to do.
        async with asyncio.timeout(10 * REVOKED_WITHIN_S):
            *_, end = await ends.whole()
            refused = await whole
        assert (end.name, end.json["code"], end.json["retryable"]) == ("error", "key_ended", False)
        assert (refused.status_code, refused.json()["code"]) == (401, "key_ended")
        for attempt in (streams, waits):
            await worker.wait_for_cancellation(attempt.job.id, 2)
        await worker.done(stays)
        assert (await staying.whole())[-1].name == "done"


def test_the_time_of_a_revocation_is_one_number() -> None:
    root = Path(__file__).parents[3]
    assert "within a second" in (root / "orchestrator/cli/configure/keys.py").read_text()
    assert "within a second" in (root / "docs/security.md").read_text()
    assert REVOKED_WITHIN_S == 1


async def test_a_job_carries_the_id_of_its_key(
    client: httpx.AsyncClient, gateway: Gateway, worker: ScriptedWorker, model: str
) -> None:
    body = {"modelId": model, "prompt": "x"}
    asking = asyncio.create_task(client.post("/api/v1/inference", json=body))
    attempt = await worker.answer("a")
    await asking
    assert attempt.job.key_id == gateway.key.record.id


async def no_send(_: Any) -> None:
    raise AssertionError("nothing is sent")


def anonymous(whose: Any = "local") -> KeyRecord:
    record = make_key("guests", ("llama-*",)).record
    return msgspec.structs.replace(record, anonymous=whose)


def test_requests_without_a_key_have_the_one_that_is_declared_theirs(own: Gateway) -> None:
    assert ask(own).status_code == 401
    own.write_keys(own.key, anonymous())
    assert within(REVOKED_WITHIN_S, lambda: ask(own).status_code == 200)
    assert [model["id"] for model in ask(own).json()["models"]] == ["llama-1"]
    assert httpx.get(f"{own.url}/models").json()["data"][0]["id"] == "llama-1"
    for operators in ("/metrics", "/docs", "/openapi.json"):
        assert httpx.get(own.url + operators).status_code == 401
    # 429 if other tests have presented too many wrong keys in this minute.
    assert ask(own, X_API_Key="ew_wrong").status_code in (401, 429)
    assert ask(own, Origin=own.url).status_code == 200
    assert ask(own, Origin="https://elsewhere.example").status_code == 401
    own.write_keys(own.key)
    assert within(REVOKED_WITHIN_S, lambda: ask(own).status_code == 401)


@pytest.mark.parametrize(
    ("whose", "client", "server", "is_let_in"),
    [
        ("local", "127.0.0.1", "127.0.0.1", True),
        ("local", "192.0.2.1", "192.0.2.9", False),
        ("local", "127.0.0.1", "192.0.2.9", False),
        ("all", "192.0.2.1", "192.0.2.9", True),
        ("", "127.0.0.1", "127.0.0.1", False),
    ],
)
async def test_only_this_host_needs_no_key_unless_it_is_forced(
    tmp_path: Path, whose: str, client: str, server: str, is_let_in: bool
) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(msgspec.json.encode([anonymous(whose)]))
    path.chmod(0o600)
    scope = {
        "type": "http",
        "path": MODELS_PATH,
        "headers": [(b"host", b"192.0.2.9")],
        "client": (client, 1),
        "server": (server, 2),
    }
    context = RequestContext(send=no_send)
    scope["ew.context"] = context
    checking = Authenticator(KeyStore(path), GatewayConfig()).check(Request(scope))
    if is_let_in:
        await checking
        assert context.key is not None
        assert context.key.name == "guests"
    else:
        with pytest.raises(ApiError) as caught:
            await checking
        assert caught.value.code == "missing_api_key"


@pytest.fixture(scope="module")
def proxied(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway behind a proxy at 127.0.0.1, and one key for requests without a key."""
    models = {"m": {"engine": "mock", "model_path": "none"}}
    config = {"models": models, "gateway": {"processes": 1, "trusted_proxies": ["127.0.0.1"]}}
    gateway = Gateway(tmp_path_factory.mktemp("proxied"), redis_url, config)
    guests = make_key("guests")
    gateway.write_keys(gateway.key, msgspec.structs.replace(guests.record, anonymous="local"))
    gateway.start()
    yield gateway
    assert gateway.stop() == 0


def test_wrong_keys_are_counted_by_the_client_of_a_trusted_proxy(proxied: Gateway) -> None:
    def guess(client: str) -> int:
        wrong = make_key("wrong").text
        return ask(proxied, X_API_Key=wrong, X_Forwarded_For=client).status_code

    guesser = "6.6.6.6, 203.0.113.7"
    assert [guess(guesser) for _ in range(31)][-2:] == [401, 429]
    assert guess("7.7.7.7, 203.0.113.7") == 429, "its own words before the proxy's do not count"
    assert guess("203.0.113.8") == 401


@pytest.mark.parametrize("header", ["X_Forwarded_For", "Via", "Forwarded", "X_Real_IP"])
def test_a_request_through_a_proxy_is_never_from_this_host(proxied: Gateway, header: str) -> None:
    assert ask(proxied).status_code == 200
    assert ask(proxied, **{header: "127.0.0.1"}).status_code == 401
