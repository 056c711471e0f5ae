"""The process: how it ends, how several share the work, and what it tells operators."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from contract.bus.client import connect
from contract.bus.heartbeats import GATEWAYS, Heartbeats
from contract.config import Config
from contract.gateway_beat import GatewayBeat
from contract.messages import State
from gateway.lifecycle.process import GatewayProcess
from gateway.lifecycle.settings import ProcessSettings
from gateway.server.processes import process_count
from tests.gateway.conftest import Gateway, client_of, served
from tests.gateway.scripted_worker import ScriptedWorker
from tests.gateway.sse_client import collect, reading
from tests.waiting import until

INFER = "/api/v1/inference"
STREAM = "/api/v1/inference/stream"
ASK = {"modelId": "m", "prompt": "x"}


async def test_a_client_that_does_not_read_is_cut_and_delays_nobody(
    gateway: Gateway, client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    lazy = _ask_and_never_read(gateway, model)
    try:
        attempt = await worker.start()
        asking = asyncio.create_task(collect(client, STREAM, {"modelId": model, "prompt": "x"}))
        other = await worker.start()
        deadline = time.monotonic() + 20
        while attempt.job.id not in worker.cancelled:
            assert time.monotonic() < deadline, "the slow client was not cut"
            await worker.delta(attempt, "x" * 20_000)
        for _ in range(10):
            await worker.delta(other, "y")
        await worker.done(other)
        assert len(await asking) == 11
        await metrics_when(client, rf'ew_failures_total{{code="slow_client",model="{model}".* 1.0')
        assert await asyncio.to_thread(_read_until_cut, lazy) > 100_000
    finally:
        lazy.close()


def _ask_and_never_read(gateway: Gateway, model: str) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", gateway.port))
    body = b'{"modelId": "%b", "prompt": "x"}' % model.encode()
    head = f"POST {STREAM} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {gateway.key.text}\r\n"
    connection.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    return connection


def _read_until_cut(connection: socket.socket) -> int:
    """How much comes before the end; the end must come."""
    connection.settimeout(15)
    size = 0
    try:
        while part := connection.recv(65536):
            size += len(part)
            if b"slow_client" in part and b"0\r\n\r\n" in part:
                break
    except ConnectionResetError:
        pass
    return size


async def test_stopping_lets_open_answers_finish(
    new_gateway: Callable[..., Gateway], own_valkey: Any
) -> None:
    gateway = new_gateway(own_valkey.url)
    async with served(gateway) as (worker, client), reading(client, STREAM, ASK) as answer:
        attempt = await worker.start()
        await worker.delta(attempt, "a")
        await answer.has("a")
        assert gateway.process is not None
        gateway.process.terminate()
        await gateway.wait_for_log("draining 1 open answers")
        await worker.delta(attempt, "b")
        await worker.done(attempt)
        events = await answer.whole()
        assert [event.name for event in events] == ["", "", "done"]
        assert await asyncio.to_thread(gateway.stop) == 0


async def test_what_does_not_finish_in_time_is_told_so(
    new_gateway: Callable[..., Gateway], own_valkey: Any
) -> None:
    gateway = new_gateway(own_valkey.url, gateway={"processes": 1, "drain_timeout_s": 1})
    async with served(gateway) as (worker, client), reading(client, STREAM, ASK) as answer:
        attempt = await worker.start()
        await worker.delta(attempt, "a")
        await answer.has("a")
        stopping = asyncio.create_task(asyncio.to_thread(gateway.stop))
        *_, end = await answer.whole()
        assert (end.name, end.json["code"], end.json["retryable"]) == ("error", "draining", True)
        assert await stopping == 0
        await worker.wait_for_cancellation(attempt.job.id, 2)


async def metrics_when(client: httpx.AsyncClient, *patterns: str) -> str:
    """The metrics, once all patterns are found in them: they are published every 2 s."""
    deadline = time.monotonic() + 20
    while True:
        text = (await client.get("/metrics")).text
        missing = [pattern for pattern in patterns if not re.search(pattern, text)]
        if not missing:
            return text
        assert time.monotonic() < deadline, f"{missing} not in {text}"
        await asyncio.sleep(0.1)


async def test_several_processes_serve_as_one(
    new_gateway: Callable[..., Gateway], own_valkey: Any
) -> None:
    gateway = new_gateway(own_valkey.url, gateway={"processes": 3})
    assert gateway.process is not None
    async with served(gateway) as (worker, client):
        await metrics_when(client, 'process="0"', 'process="1"', 'process="2"')
        asked = 0
        while len(_tokens_by_process((await client.get("/metrics")).text)) < 2:
            assert asked < 2000
            await _ask_in_parallel(gateway, worker, 20)
            asked += 20
        deadline = time.monotonic() + 20
        total = 0.0
        while total < asked:
            assert time.monotonic() < deadline, total
            text = (await client.get("/metrics")).text
            assert sum(_tokens_by_process(text).values()) >= total, "a counter went back"
            total = sum(_tokens_by_process(text).values())
        assert total == asked
        families = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
        assert len(families) == len(set(families))
        assert 'ew_worker_slots{engine="mock",model="m",worker="w1"} 64.0' in text
    children = psutil.Process(gateway.process.pid).children(recursive=True)
    assert await asyncio.to_thread(gateway.stop) == 0
    _, alive = await asyncio.to_thread(psutil.wait_procs, children, 10)
    assert not alive


async def _ask_in_parallel(gateway: Gateway, worker: ScriptedWorker, count: int) -> None:
    async def ask() -> httpx.Response:
        async with client_of(gateway) as client:
            return await client.post(INFER, json=ASK)

    asking = [asyncio.create_task(ask()) for _ in range(count)]
    for _ in range(count):
        await worker.answer("a")
    assert {response.json()["text"] for response in await asyncio.gather(*asking)} == {"a"}


def _tokens_by_process(text: str) -> dict[str, float]:
    found = re.findall(r'ew_generation_tokens_total{model="m",process="(\d+)"} ([\d.]+)', text)
    return {process: float(tokens) for process, tokens in found if float(tokens)}


def _serving(gateway: Gateway) -> list[psutil.Process]:
    assert gateway.process is not None
    return [
        child
        for child in psutil.Process(gateway.process.pid).children()
        if "spawn_main" in " ".join(child.cmdline())
    ]


def _listens(gateway: Gateway) -> bool:
    assert gateway.process is not None
    sockets = psutil.Process(gateway.process.pid).net_connections("tcp")
    return any(each.status == psutil.CONN_LISTEN for each in sockets)


async def test_processes_without_a_parent_leave_if_nobody_takes_their_place(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config.model_validate(gateway.config)
    paths = (gateway.directory / "config.json", gateway.directory / "keys.json")
    process = GatewayProcess(ProcessSettings(config, *paths, gateway.redis_url, "i", 0))
    monkeypatch.setattr("gateway.lifecycle.process._RELIEVED_WITHIN_S", 0.1)
    loop = asyncio.get_running_loop()
    told_to_leave = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, told_to_leave.set)
    sentinel, parent = os.pipe()
    loop.add_reader(sentinel, process._parent_died, loop, sentinel)
    os.close(parent)
    await asyncio.wait_for(told_to_leave.wait(), 10)
    assert process.drain(), "open answers may go on to their end"
    loop.remove_signal_handler(signal.SIGTERM)
    os.close(sentinel)


async def test_a_gateway_takes_the_place_of_processes_without_a_parent(
    new_gateway: Callable[..., Gateway], own_valkey: Any
) -> None:
    gateway = new_gateway(own_valkey.url, gateway={"processes": 2, "drain_timeout_s": 1})
    async with served(gateway) as (worker, client), reading(client, STREAM, ASK) as answer:
        children = _serving(gateway)
        attempt = await worker.start()
        await worker.delta(attempt, "a")
        await answer.has("a")
        gateway.kill()
        assert await asyncio.to_thread(gateway.answers, "/health/live")
        gateway.start()
        await asyncio.to_thread(gateway.wait_until, lambda: _listens(gateway), 30)
        for child in children:
            child.terminate()
        async with client_of(gateway) as other:
            asking = asyncio.create_task(other.post(INFER, json=ASK))
            await worker.answer("b")
            assert (await asking).json()["text"] == "b"
        await worker.done(attempt)
        # Comments keep the connection open for as long as the start takes.
        events = await answer.whole()
        assert [event.name for event in events if event.name != ":"] == ["", "done"]
    _, alive = await asyncio.to_thread(psutil.wait_procs, children, 10)
    assert not alive


async def test_models_come_and_go_with_the_configuration(
    new_gateway: Callable[..., Gateway], own_valkey: Any
) -> None:
    gateway = new_gateway(own_valkey.url)
    async with client_of(gateway) as client:
        gateway.config["models"]["new"] = {"engine": "mock", "model_path": "none"}
        gateway.write_config()
        await _wait_for_models(client, {"m", "new"})
        gateway.config["models"]["new"]["enginge"] = "typo"
        gateway.write_config()
        await gateway.wait_for_log("did you mean `engine`")
        await _wait_for_models(client, {"m", "new"})
        del gateway.config["models"]["new"]
        gateway.write_config()
        await _wait_for_models(client, {"m"})


async def test_limits_are_those_of_the_file_at_once(
    new_gateway: Callable[..., Gateway], own_valkey: Any
) -> None:
    gateway = new_gateway(own_valkey.url)
    async with served(gateway) as (worker, client), reading(client, STREAM, ASK) as answer:
        attempt = await worker.start()
        await worker.delta(attempt, "a")
        await answer.has("a")
        gateway.config["limits"] = {"max_body_bytes": 1024, "max_output_len": 7}
        gateway.write_config()
        deadline = time.monotonic() + 20
        too_long = {**ASK, "maxTokens": 1_000_000}
        while "at most 7" not in (await client.post(INFER, json=too_long)).text:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        assert (await client.post(INFER, json={**ASK, "x": "x" * 2000})).status_code == 413
        # Of an answer that is under way, timeouts change, too.
        gateway.config["limits"] = {"token_gap_timeout_s": 0.1}
        gateway.write_config()
        *_, end = await answer.whole()
        assert (end.name, end.json["code"]) == ("error", "token_gap_timeout")


async def _wait_for_models(client: httpx.AsyncClient, wanted: set[str]) -> None:
    async def are_these() -> bool:
        models = (await client.get("/api/v1/models")).json()["models"]
        return {model["id"] for model in models} == wanted

    await until(are_these)


async def test_a_models_state_is_that_of_its_workers(
    client: httpx.AsyncClient, redis_url: str, model: str
) -> None:
    assert (await _state_of(client, model))["state"] == "stopped"
    worker = ScriptedWorker(redis_url, model)
    worker.state = State.STARTING
    async with worker:
        await _wait_for_state(client, model, "starting")
        worker.state = State.READY
        found = await _wait_for_state(client, model, "ready")
        assert (found["workers"], found["maxModelLen"]) == (1, 4096)
    await _wait_for_state(client, model, "stopped")


async def _state_of(client: httpx.AsyncClient, model: str) -> dict[str, Any]:
    models = (await client.get("/api/v1/models")).json()["models"]
    found: dict[str, Any] = next(each for each in models if each["id"] == model)
    return found


async def _wait_for_state(client: httpx.AsyncClient, model: str, state: str) -> dict[str, Any]:
    async def is_so() -> dict[str, Any] | None:
        found = await _state_of(client, model)
        return found if found["state"] == state else None

    found: dict[str, Any] = await until(is_so)
    return found


async def _ready_without(client: httpx.AsyncClient, reason: str) -> httpx.Response | None:
    """Return what readiness answers, once it no longer gives this reason."""
    ready = await client.get("/health/ready")
    return None if reason in ready.json()["reasons"] else ready


async def test_readiness_says_what_is_missing(
    new_gateway: Callable[..., Gateway], own_valkey: Any
) -> None:
    gateway = new_gateway(own_valkey.url)
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        # It answers before it has found Redis.
        ready = await until(lambda: _ready_without(client, "Redis does not answer"))
        assert (ready.status_code, ready.json()["status"]) == (503, "not_ready")
        assert ready.json()["reasons"] == ["no model is ready"]
        async with ScriptedWorker(own_valkey.url, "m"):
            await asyncio.to_thread(gateway.wait_until_ready)
            ready = await client.get("/health/ready")
            assert ready.json() == {"status": "ready", "reasons": []}


async def test_labels_of_metrics_come_from_the_configuration_only(
    client: httpx.AsyncClient, model: str
) -> None:
    for name in ("made-up-1", "made-up-2"):
        await client.post(INFER, json={"modelId": name, "prompt": "x"})
        await client.get(f"/{name}")
    await client.post(INFER, json={"modelId": model, "prompt": "x"})
    text = await metrics_when(
        client,
        f'model="{model}",process="0",route="{INFER}",status="503"',
        f'model="other",process="0",route="{INFER}",status="404"',
        'model="other",process="0",route="other",status="404"',
    )
    assert "made-up" not in text


def test_most_cores_are_left_to_the_engines() -> None:
    assert [process_count(0, cores) for cores in (1, 3, 4, 8, 16, 64)] == [1, 1, 2, 2, 4, 8]
    assert process_count(5, 2) == 5


def test_without_its_configuration_it_says_what_is_wrong(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text('{\n "modles": {}\n}')
    environment = {**os.environ, "EW_CONFIG": str(config), "EW_REDIS_URL": "unix:///nowhere"}
    ran = subprocess.run(
        [sys.executable, "-m", "gateway"],
        env=environment,
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 1
    assert f"{config}:2: unknown key `modles`; did you mean `models`?" in ran.stderr
    assert "Traceback" not in ran.stderr


async def test_nothing_listens_beyond_loopback(gateway: Gateway) -> None:
    assert gateway.process is not None
    listening = [
        connection.laddr.ip
        for connection in psutil.Process(gateway.process.pid).net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert set(listening) == {"127.0.0.1"}


async def test_an_interrupt_ends_it_cleanly(
    new_gateway: Callable[..., Gateway], own_valkey: Any
) -> None:
    for processes in (1, 2):
        gateway = new_gateway(own_valkey.url, gateway={"processes": processes})
        assert gateway.process is not None
        gateway.process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(gateway.process.wait, 15) == 0


async def test_figures_are_as_prometheus_has_them(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    asking = asyncio.create_task(client.post(INFER, json={"modelId": model, "prompt": "x"}))
    await worker.answer("a", "b")
    await asking
    labels = f'model="{model}",process="0"'
    text = await metrics_when(client, rf"ew_generation_tokens_total{{{labels}}} 2.0")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families["ew_generation_tokens"].type == "counter"
    assert families["ew_request_queue_time_seconds"].type == "histogram"
    first = [
        each for each in families["ew_time_to_first_token_seconds"].samples if model in str(each)
    ]
    buckets = {each.labels["le"]: each.value for each in first if "le" in each.labels}
    assert next(iter(buckets)) == "0.005"
    assert buckets["+Inf"] == 1
    assert sorted(buckets.values()) == list(buckets.values())
    assert {each.name: each.value for each in first}["ew_time_to_first_token_seconds_count"] == 1


async def test_a_heartbeat_that_cannot_be_read_costs_no_figures(
    client: httpx.AsyncClient, db: Redis
) -> None:
    leases, _, beats = (f"ew:{{{GATEWAYS}}}:{part}" for part in ("leases", "ready", "beats"))
    await db.zadd(leases, {"broken": (time.time() + 10) * 1000})
    await db.hset(beats, "broken", b"\xc1")
    response = await client.get("/metrics")
    assert response.status_code == 200
    assert "ew_redis_up 1.0" in response.text
    await Heartbeats(db, GATEWAYS).leave("broken")


#: A gateway whose event loop stands still at SIGUSR1, for as long as a variable says.
_STALLING = """
import os, signal, sys, time
from contract.bus import heartbeat_sender as heartbeat_sender
heartbeat_sender.BEAT_EVERY_S = 0.2
heartbeat_sender.HUNG_AFTER_S = float(os.environ["HUNG_AFTER_S"])
signal.signal(signal.SIGUSR1, lambda *_: time.sleep(float(os.environ["STALL_S"])))
from gateway.__main__ import main
sys.exit(main())
"""


def _stalling(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, *, hung_after_s: float, stall_s: float = 5
) -> None:
    monkeypatch.setenv("STALL_S", str(stall_s))
    monkeypatch.setenv("HUNG_AFTER_S", str(hung_after_s))
    gateway.command = [sys.executable, "-c", _STALLING]
    gateway.start()
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGUSR1)


async def test_a_process_that_is_busy_goes_on_beating(
    new_gateway: Callable[..., Gateway], own_valkey: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = new_gateway(own_valkey.url, start=False)
    _stalling(gateway, monkeypatch, hung_after_s=60)
    db = connect(own_valkey.url)
    counts: set[int] = set()
    while len(counts) < 5:
        with pytest.raises(httpx.ReadTimeout):
            await asyncio.to_thread(httpx.get, gateway.url + "/health/live", timeout=0.3)
        for beat in await Heartbeats(db, GATEWAYS).alive():
            counts.add(msgspec.msgpack.decode(beat, type=GatewayBeat).count)
    await db.aclose()
    await asyncio.to_thread(gateway.wait_until, lambda: gateway.answers("/health/live"), 20)


async def test_a_process_whose_loop_stands_still_ends_itself_and_says_where(
    new_gateway: Callable[..., Gateway], own_valkey: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = new_gateway(own_valkey.url, start=False)
    _stalling(gateway, monkeypatch, hung_after_s=1)
    assert gateway.process is not None
    assert await asyncio.to_thread(gateway.process.wait, 30) == -signal.SIGKILL
    log = gateway.log.read_text()
    assert "the event loop has stood still" in log
    assert "in main" in log


async def test_a_process_that_was_stopped_and_goes_on_is_not_taken_for_hung(
    new_gateway: Callable[..., Gateway], own_valkey: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = new_gateway(own_valkey.url, start=False)
    _stalling(gateway, monkeypatch, hung_after_s=1, stall_s=0)
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGSTOP)
    # Longer than a loop may stand still.
    await asyncio.sleep(1.2)
    gateway.process.send_signal(signal.SIGCONT)
    await asyncio.to_thread(gateway.wait_until, lambda: gateway.answers("/health/live"), 20)
    db, counts = connect(own_valkey.url), set[int]()
    async with asyncio.timeout(20):
        while len(counts) < 5:
            for beat in await Heartbeats(db, GATEWAYS).alive():
                counts.add(msgspec.msgpack.decode(beat, type=GatewayBeat).count)
            await asyncio.sleep(0.02)
    await db.aclose()
    assert gateway.process.poll() is None
