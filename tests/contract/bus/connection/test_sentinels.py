"""The URL of Sentinels, and connections that follow the primary, over real ones."""

from __future__ import annotations

import pytest

from contract.bus.background import BackgroundJobs
from contract.bus.background_job import AboutJob
from contract.bus.client import connect, connect_reader
from contract.bus.connection.url import SentinelUrl, complaint_about, hosts_of, sentinel_url
from contract.bus.queue import JobQueue
from tests.contract.queue_workers import a_job, put, serve
from tests.failover import Failover


def test_a_url_names_sentinels_their_primary_and_its_options() -> None:
    url = "rediss+sentinel://ew:p%40ss@a,b:7000,[::1]:7001/prod/2?ssl_ca_certs=/c.pem"
    assert sentinel_url(f"{url}&sentinel_password=s%26") == SentinelUrl(
        sentinels=(("a", 26379), ("b", 7000), ("::1", 7001)),
        name="prod",
        server="rediss://ew:p%40ss@localhost/2?ssl_ca_certs=%2Fc.pem",
        username=None,
        password="s&",
    )
    assert hosts_of(url) == ["a", "b", "::1"]
    assert not complaint_about(url)
    assert sentinel_url("redis://a/0") is None
    assert hosts_of("unix:///s") == []


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("redis+sentinel://a:1", "does not name the Sentinels' primary"),
        ("redis+sentinel://a:1/prod/first", "does not name the Sentinels' primary"),
        ("redis+sentinel:///prod", "has a Sentinel without a usable host and port"),
        ("redis+sentinel://a:1,/prod", "has a Sentinel without a usable host and port"),
        ("redis+sentinel://a:70000/prod", "has a Sentinel without a usable host and port"),
        ("redis+sentinel://a:0/prod", "has a Sentinel without a usable host and port"),
    ],
)
def test_a_mistake_is_told_without_the_password(url: str, complaint: str) -> None:
    said = complaint_about(url.replace("://", "://ew:secret@"))
    assert said.startswith(complaint)
    assert "secret" not in said
    assert "redis+sentinel://10.0.0.1:26379,10.0.0.2:26379/NAME/0" in said


async def test_a_connection_leaves_a_server_that_was_made_a_replica(failover: Failover) -> None:
    db, reader = connect(failover.url), connect_reader(failover.url)
    try:
        await db.direct.ask("SET", "before", "1")
        await db.set("before", "2")
        await reader.ping()
        failover.swap()
        for ask in (db.direct.ask, db.execute_command, reader.execute_command):
            with pytest.raises(failover.Lost, match="has become a replica"):
                await ask("SET", "after", "1")
            assert await ask("SET", "after", "1") in (True, b"OK")
        assert failover.second.client().get("after") == b"1"
    finally:
        await db.aclose()
        await reader.aclose()


async def test_a_script_with_steps_of_their_own_leaves_a_server_that_was_made_a_replica(
    failover: Failover,
) -> None:
    """Were it told as the failure of a step, the connection would stay."""
    db, other = connect(failover.url), connect(failover.url)
    queue, kept = JobQueue(db, "m"), BackgroundJobs(other, 1 << 20)
    try:
        await serve(queue)
        await put(queue, "before")
        job = a_job(queue, "kept")
        await kept.create(job, AboutJob("m", "r", 60), job_id=job.id, keeper="gone", digest="")
        assert await kept.adopt("nobody", ["gone"], 1) == []
        assert failover.first.client().wait(1, 5000) == 1
        failover.swap()
        for script in (lambda: put(queue, "after"), lambda: kept.adopt("heir", [], 1)):
            with pytest.raises(failover.Lost, match="has become a replica"):
                await script()
            assert await script()
        assert failover.second.client().hget(queue.job_key("after"), "state") == b"queued"
    finally:
        await db.aclose()
        await other.aclose()


async def test_sentinels_that_know_no_primary_are_named(failover: Failover) -> None:
    db = connect(failover.url.replace("/prod/", "/other/"))
    try:
        for ask in (db.ping, lambda: db.direct.ask("PING")):
            with pytest.raises(failover.Lost, match=r"none of the Sentinels .* `other` that is up"):
                await ask()
    finally:
        await db.aclose()


async def test_sentinels_with_a_login_of_their_own_say_which_is_missing(failover: Failover) -> None:
    login = ("reset", "on", ">theirs", "+@all", "allchannels", "~*")
    failover.sentinel.client(None).execute_command("ACL", "SETUSER", "default", *login)
    refused, let_in = connect(failover.url), connect(f"{failover.url}?sentinel_password=theirs")
    try:
        with pytest.raises(failover.Lost, match="refuse the login: `sentinel_password`"):
            await refused.ping()
        assert await let_in.ping()
    finally:
        await refused.aclose()
        await let_in.aclose()
