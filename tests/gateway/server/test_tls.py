"""A gateway with certificates of its own."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import Iterator

import httpx
import pytest

from contract.bus.claims import Attempt
from contract.process.tls import TlsFiles
from tests.certificates import Authority, section
from tests.gateway.conftest import Gateway, client_of, served, with_constants
from tests.gateway.scripted_worker import ScriptedWorker
from tests.gateway.sse_client import collect, streaming

STREAM = "/api/v1/inference/stream"
BODY = {"modelId": "m", "prompt": "x"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def secure(
    redis_url: str, tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[Gateway]:
    """Its clients need certificates, and it looks at its own for every connection."""
    files = authority.issue("server")._replace(client_ca=authority.file)
    config = {
        "models": {"m": {"engine": "mock", "model_path": "none"}},
        "gateway": {"processes": 1, "tls": section(files)},
    }
    gateway = Gateway(tmp_path_factory.mktemp("secure"), redis_url, config)
    gateway.command = with_constants({"gateway.server.tls._LOOK_EVERY_S": 0.0})
    gateway.verify = authority.client(authority.issue("client", "alice@example.com"))
    gateway.start()
    yield gateway
    assert gateway.stop() == 0, gateway.log.read_text()


def _serial(gateway: Gateway, verify: ssl.SSLContext) -> str:
    """Return the number of the certificate that a new connection is shown."""
    with (
        httpx.Client(verify=verify) as client,
        client.stream("GET", f"{gateway.url}/health/live") as answer,
    ):
        shown = answer.extensions["network_stream"].get_extra_info("ssl_object").getpeercert()
    return str(shown["serialNumber"])


async def _begin(worker: ScriptedWorker, text: str) -> Attempt:
    """Begin the next job, and say a first word."""
    attempt = await worker.start()
    await worker.delta(attempt, text)
    return attempt


async def test_answers_are_streamed(secure: Gateway) -> None:
    async with served(secure) as (worker, client):
        asking = asyncio.create_task(collect(client, STREAM, BODY))
        await worker.answer("a", "b")
        assert [event.json["text"] for event in (await asking)[:-1]] == ["a", "b"]


async def test_a_new_certificate_is_for_new_connections_and_cuts_none(
    secure: Gateway, authority: Authority
) -> None:
    assert isinstance(secure.verify, ssl.SSLContext)
    async with served(secure) as (worker, client):
        before = _serial(secure, secure.verify)
        saying = asyncio.create_task(_begin(worker, "before"))
        async with streaming(client, STREAM, BODY) as (_, events):
            attempt = await saying
            assert (await anext(events)).json["text"] == "before"

            files = authority.issue("next")
            served_files = TlsFiles(
                authority.directory / "server.pem", authority.directory / "server.key"
            )
            files.certificate.replace(served_files.certificate)
            # The key is still that of the former one.
            assert _serial(secure, secure.verify) == before
            await secure.wait_for_log("the certificate stays as it was")
            files.key.replace(served_files.key)
            after = _serial(secure, secure.verify)
            assert after != before
            assert "new connections get the certificate that is valid until" in (
                secure.log.read_text()
            )

            await worker.delta(attempt, "after")
            assert (await anext(events)).json["text"] == "after"
            await worker.done(attempt)


async def test_who_shows_no_certificate_gets_to_the_probes_alone(
    secure: Gateway, authority: Authority
) -> None:
    key = {"X-API-Key": secure.key.text}
    strangers = Authority(authority.directory / "..")
    async with httpx.AsyncClient(base_url=secure.url, verify=authority.client()) as client:
        assert (await client.get("/health/live")).status_code == 200
        refused = await client.get("/api/v1/models", headers=key)
        assert (refused.status_code, refused.json()["code"]) == (403, "missing_certificate")
    async with client_of(secure) as client:
        assert (await client.get("/api/v1/models")).status_code == 200
    of_another = authority.client(strangers.issue("stranger", "alice@example.com"))
    async with httpx.AsyncClient(base_url=secure.url, verify=of_another) as client:
        with pytest.raises(httpx.TransportError):
            await client.get("/health/live")


async def test_a_client_that_leaves_frees_its_worker(secure: Gateway) -> None:
    async with served(secure) as (worker, client):
        saying = asyncio.create_task(_begin(worker, "a"))
        async with streaming(client, STREAM, BODY) as (_, events):
            attempt = await saying
            await anext(events)
        await worker.wait_for_cancellation(attempt.job.id, 2)


def test_a_gateway_without_its_key_says_which_file_it_is(
    secure: Gateway, authority: Authority
) -> None:
    wrong = Gateway(authority.directory, secure.redis_url, {"gateway": {"processes": 1}})
    wrong.config["gateway"]["tls"] = section(authority.issue("wrong")._replace(key=authority.file))
    wrong.write_config()
    with pytest.raises(AssertionError, match=r"authority\.pem has no private key in it"):
        wrong.start()
    assert isinstance(wrong.process, subprocess.Popen)
    assert wrong.process.wait(5) == 1
