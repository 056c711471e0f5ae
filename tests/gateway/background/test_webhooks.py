"""The end of a job is told: signed, again until it is taken, and only where it may go."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import socket
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from standardwebhooks import Webhook

from contract.bus.background_job import Webhook as HookRecord
from gateway.background import webhooks as webhooks_module
from gateway.background.receiver import Told
from gateway.background.webhooks import Webhooks
from gateway.http.errors import ApiError
from gateway.http.outside_hosts import HostRefused, OutsideHosts, _is_public
from tests.conftest import ValkeyServer
from tests.gateway.background.test_jobs import JOBS, ended, post
from tests.gateway.conftest import Gateway, client_of
from tests.gateway.scripted_worker import ScriptedWorker
from tests.waiting import until

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


class Receiver:
    """Takes requests as a program of the client's would, and answers as it is told."""

    def __init__(self, *answers: str) -> None:
        self.answers = [*answers]
        self.requests: asyncio.Queue[tuple[dict[str, str], bytes]] = asyncio.Queue()
        self.port = 0

    async def __aenter__(self) -> Receiver:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = (line.partition(": ") for line in head.split("\r\n")[1:] if line)
        headers = {name.lower(): value for name, _, value in lines}
        body = await reader.readexactly(int(headers["content-length"]))
        self.requests.put_nowait((headers, body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        writer.write(f"HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()


async def test_an_end_is_told_signed_and_again_until_it_is_taken(
    own_valkey: ValkeyServer, new_gateway: Callable[..., Gateway]
) -> None:
    # Of its own: any gateway process on a Redis sends what is due there.
    module = "gateway.background.webhooks"
    waits: Any = {f"{module}._WAITS_S": [0.1, 0.1, 0.1], f"{module}._LOOK_EVERY_S": 0.1}
    gateway = new_gateway(
        own_valkey.url,
        constants=waits,
        jobs={"webhook_private_hosts": ["127.0.0.1"]},
    )
    moved = "302 Found\r\nLocation: http://127.0.0.1:1/elsewhere"
    async with (
        Receiver("500 Oops", moved, "204 No Content") as receiver,
        ScriptedWorker(own_valkey.url, "m") as worker,
        client_of(gateway) as client,
    ):
        gateway.wait_until_ready()
        webhook = {"url": f"http://127.0.0.1:{receiver.port}/hook?a=1", "secret": SECRET}
        ask = {"modelId": "m", "prompt": "x", "webhook": webhook}
        job = await post(client, ask)
        await worker.answer("secret words")
        told = [await asyncio.wait_for(receiver.requests.get(), 20) for _ in range(3)]
        for headers, body in told:
            message = Webhook(SECRET).verify(body, headers)
            assert (message["type"], message["data"]["id"]) == ("job.done", job["id"])
            assert b"secret words" not in body
            assert headers["host"] == f"127.0.0.1:{receiver.port}"
        assert len({headers["webhook-id"] for headers, _ in told}) == 1
        shown = await ended(client, job["id"])
        while shown["webhook"]["tries"] < 3:
            shown = (await client.get(f"{JOBS}/{job['id']}")).json()
        assert shown["webhook"]["last"] == "answered with 204"
        assert "whsec" not in str(shown)
        assert receiver.requests.empty()
        elsewhere = {**ask, "webhook": {**webhook, "url": "https://example.com/"}}
        refused = await client.post(JOBS, json=elsewhere)
        assert (refused.status_code, refused.json()["field"]) == (422, "webhook.url")
        weak = await client.post(JOBS, json={**ask, "webhook": {**webhook, "secret": "whsec_YQ=="}})
        assert (weak.status_code, weak.json()["field"]) == (422, "webhook.secret")
        needs = await client.post("/api/v1/inference", json=ask)
        assert (needs.status_code, needs.json()["field"]) == (422, "webhook")


async def test_a_receiver_that_hangs_holds_up_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks_module, "_LOOK_EVERY_S", 0.01)
    hanging, fast = "https://hangs.example/", "https://fast.example/"
    due = [
        SimpleNamespace(id=f"h{n}", webhook_tries=0, webhook=HookRecord(hanging, SECRET))
        for n in range(500)
    ]
    due += [
        SimpleNamespace(id=f"f{n}", webhook_tries=0, webhook=HookRecord(fast, SECRET))
        for n in range(40)
    ]
    tried: list[tuple[str, str]] = []
    are_late, may_answer, sent = asyncio.Event(), asyncio.Event(), 0

    class Records:
        async def webhooks_due(self, count: int, _: int) -> list[Any]:
            taken, due[:] = due[:count], due[count:]
            return taken

        async def webhook_tried(self, job: Any, word: str, _: float | None) -> None:
            tried.append((job.id, word))

    class Sender:
        async def send(self, job: Any, url: str, _: str) -> Told:
            nonlocal sent
            if url == fast:
                return Told(204, "taken")
            sent += 1
            await (are_late if sent <= 4 else may_answer).wait()
            return Told(0, "no answer in time", is_late=True)

        async def close(self) -> None: ...

    records: Any = Records()
    sender: Any = Sender()
    webhooks = Webhooks(records, OutsideHosts("x", [], []))
    webhooks._sender = sender
    running = asyncio.create_task(webhooks.run())
    await until(lambda: sent == 4)
    are_late.set()
    await until(lambda: sum(word == "taken" for _, word in tried) == 40)
    assert not due
    # One is under way; those that were left to it were not tried.
    await until(lambda: len(webhooks._telling) == 1)
    assert (sent, len(tried)) == (5, 44)
    may_answer.set()
    await until(lambda: not webhooks._telling)
    running.cancel()


async def test_a_name_server_that_hangs_takes_no_thread_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    may_answer = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: may_answer.wait(20) and [])
    hosts = OutsideHosts("x", ["*.example.com"], [])
    asking = [asyncio.ensure_future(hosts.target(f"https://{n}.example.com/")) for n in range(100)]
    await asyncio.sleep(0)
    assert await asyncio.wait_for(asyncio.to_thread(lambda: "free"), 10) == "free"
    may_answer.set()
    await asyncio.gather(*asking, return_exceptions=True)


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/",
        "https://example.com/",
        "https://hooks.example.com.evil.test/",
        "https://user@hooks.example.com/",
        "https://hooks.example.com:99999/",
        "https://hooks.exämple.com/",
        "https:///nowhere",
        "file:///etc/passwd",
        "https://[::1/",
        "https://10.0.0.1/",
    ],
)
def test_a_url_that_is_not_allowed_is_refused(url: str) -> None:
    hosts = OutsideHosts("jobs.webhook_hosts", ["*.example.com"], [])
    hosts.check("https://hooks.example.com/x?y=1", "webhook.url")
    with pytest.raises(ApiError) as refused:
        hosts.check(url, "webhook.url")
    assert refused.value.field == "webhook.url"


async def test_an_allowed_name_does_not_lead_into_the_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hosts = OutsideHosts("jobs.webhook_hosts", ["*"], ["inside"])
    given = ["93.184.216.34"]

    def resolve(*_: object, **__: object) -> list[Any]:
        return [(socket.AF_INET, 0, 0, "", (each, 443)) for each in given]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    target = await hosts.target("https://a.test/x#y")
    assert target == ("https://93.184.216.34:443/x", "a.test", "a.test")
    for inner in ("127.0.0.1", "10.1.2.3", "169.254.169.254", "::1"):
        given[:] = ["93.184.216.34", inner]
        with pytest.raises(HostRefused, match="within this network"):
            await hosts.target("https://a.test/x")
    given[:] = ["10.1.2.3"]
    assert (await hosts.target("http://inside/x")).url == "http://10.1.2.3:80/x"


@pytest.mark.parametrize(
    ("address", "is_public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("0.0.0.0", False),  # noqa: S104
        ("100.64.0.1", False),
        ("192.168.1.1", False),
        ("224.0.0.1", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::808:808", True),
        ("2002:7f00:1::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff02::1", False),
    ],
)
def test_which_addresses_are_public(address: str, is_public: bool) -> None:
    assert ipaddress.ip_address(address.partition("%")[0])
    assert _is_public(address) is is_public
