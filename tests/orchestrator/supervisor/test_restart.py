"""`./ew restart` and `./ew config diff`, with the real gateway and workers."""

from __future__ import annotations

import json
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from contract.messages import State
from contract.supervision.status import WorkerStatus
from orchestrator.client.gateway_client import read_events
from orchestrator.config.changes import shown
from tests.orchestrator.conftest import Host
from tests.orchestrator.terminal import Terminal
from tests.waiting import eventually


class Clients:
    """They ask for long answers, and for short ones all the while."""

    def __init__(self, host: Host, terminal: Terminal) -> None:
        gateway = host.status().gateway
        assert gateway is not None
        self.url = gateway.url
        added = terminal.run("keys", "add", "--name", "test")
        self.key = added.out.split()[-1]
        self._pool = ThreadPoolExecutor(16)
        self._is_over = threading.Event()

    def stream(self, tokens: int) -> Future[list[str]]:
        """Return the names of the events of an answer; `began` is when the first token has come."""
        begun = threading.Event()
        future = self._pool.submit(self._stream, tokens, begun)
        assert begun.wait(30)
        return future

    def ask_on_and_on(self) -> Future[list[str]]:
        """Whatever went wrong with short answers, each on a connection of its own."""
        return self._pool.submit(self._ask_on_and_on)

    def end(self) -> None:
        self._is_over.set()

    def _stream(self, tokens: int, begun: threading.Event) -> list[str]:
        names = []
        body = {"modelId": "demo", "prompt": "x", "maxTokens": tokens}
        with (
            httpx.Client(timeout=60) as client,
            client.stream(
                "POST",
                f"{self.url}/api/v1/inference/stream",
                json=body,
                headers={"X-API-Key": self.key},
            ) as answer,
        ):
            assert answer.status_code == 200, answer.read()
            for event in read_events(answer.iter_lines()):
                names.append(event.name)
                begun.set()
        return names

    def _ask_on_and_on(self) -> list[str]:
        wrong = []
        while not self._is_over.is_set():
            body = {"modelId": "demo", "prompt": "x", "maxTokens": 1}
            try:
                answer = httpx.post(
                    f"{self.url}/api/v1/inference",
                    json=body,
                    headers={"X-API-Key": self.key},
                    timeout=60,
                )
            except httpx.TransportError as error:
                wrong.append(repr(error))
            else:
                if answer.status_code != 200:
                    wrong.append(answer.text)
        return wrong


def _change(terminal: Terminal, **sections: dict[str, Any]) -> None:
    config = json.loads(terminal.config.read_text())
    for section, changed in sections.items():
        config.setdefault(section, {}).update(changed)
    terminal.config.write_text(json.dumps(config))


@pytest.fixture
def ready(host: Host, terminal: Terminal) -> Terminal:
    terminal.configure(demo={"max_batch_size": 64, "engine_args": {"tokens_per_s": 20}})
    started = terminal.run("start")
    assert started.code == 0, started
    return terminal


def test_open_streams_go_on_across_a_restart_of_everything(host: Host, ready: Terminal) -> None:
    clients = Clients(host, ready)
    before = host.find_worker("demo-0").pid
    long = [clients.stream(120) for _ in range(3)]
    short = clients.ask_on_and_on()
    _change(ready, models={"demo": {**_demo(ready), "max_batch_size": 32}})
    restarted = ready.run("restart")
    assert restarted.code == 0, restarted
    assert "demo-0 is ready after" in restarted.err
    assert "gateway has new processes" in restarted.err
    after = host.find_worker("demo-0")
    assert after.pid != before
    eventually(lambda: host.find_worker("demo-0").slots == 32)
    clients.end()
    assert short.result(60) == []
    for each in long:
        names = each.result(60)
        assert names[-1] == "done"
        assert names.count("") == 120


def _demo(terminal: Terminal) -> dict[str, Any]:
    demo: dict[str, Any] = json.loads(terminal.config.read_text())["models"]["demo"]
    return demo


def test_what_a_change_needs_is_said_key_by_key_and_applied(host: Host, ready: Terminal) -> None:
    assert "nothing differs" in ready.run("config", "diff").err
    assert ready.run("restart", "demmo").code == 1
    _change(
        ready,
        models={"demo": {**_demo(ready), "max_batch_size": 7, "aliases": ["d"]}},
        gateway={"max_connections": 500, "admin_port": 1},
        limits={"max_waiting": 5},
        redis={"max_memory_bytes": 100_000_000},
    )
    diff = ready.run("config", "diff").out.splitlines()
    assert dict(zip(diff[::2], diff[1::2], strict=True)) == {
        'models.demo.aliases: [] -> ["d"]': "  applied at once",
        "models.demo.max_batch_size: 64 -> 7": "  needs: ./ew restart demo",
        "gateway.admin_port: null -> 1": "  needs: ./ew stop, then ./ew start",
        "gateway.max_connections: 8192 -> 500": "  needs: ./ew reload",
        "redis.max_memory_bytes: null -> 100000000": "  needs: ./ew stop, then ./ew start",
        "limits.max_waiting: 1024 -> 5": "  applied at once",
    }
    said = eventually(lambda: (out := ready.run("status").out) and "config diff" in out and out)
    assert "models.demo.max_batch_size" in said
    assert "limits" not in said
    restarted = ready.run("restart", "demo", "gateway")
    assert restarted.code == 0
    waits = "warning: gateway.admin_port: null -> 1 waits for: ./ew stop, then ./ew start"
    assert waits in restarted.err
    left = ready.run("config", "diff").out
    assert "gateway.admin_port: null -> 1" in left
    assert "max_connections" not in left
    assert "max_batch_size" not in left
    assert host.find_worker("demo-0").state is State.READY
    ready.config.write_text("{")
    eventually(lambda: "the configuration cannot be used" in ready.run("status").out)
    before = host.find_worker("demo-0").pid
    assert "not valid JSON" in ready.run("restart").err
    assert host.find_worker("demo-0").pid == before


def test_replicas_go_one_after_another_and_their_number_changes(
    host: Host, terminal: Terminal
) -> None:
    terminal.configure(demo={"replicas": 2}, other={})
    assert terminal.run("start", "demo").code == 0
    before = [worker.pid for worker in host.status().models[0].workers]
    _change(terminal, models={"demo": {**_demo(terminal), "replicas": 1}})
    assert terminal.run("restart", "demo").code == 0
    eventually(lambda: [each.state for each in _workers(host)] == [State.READY, State.STOPPED])
    assert host.find_worker("demo-0").pid not in before
    _change(terminal, models={"demo": {**_demo(terminal), "replicas": 3}})
    assert terminal.run("restart").code == 0
    assert [each.state for each in _workers(host)] == [State.READY] * 3
    other = terminal.run("restart", "other")
    assert (other.code, "other was not running" in other.err) == (0, True)


def _workers(host: Host) -> list[WorkerStatus]:
    return host.status().models[0].workers


def test_secrets_are_not_shown() -> None:
    url = "redis://user:pass@host/0"
    assert shown(url) == '"redis://***@host/0"'
    assert shown({"api_key": "x", "n": 1}) == '{"api_key": "***", "n": 1}'
    assert (
        shown(["serve", "--api-key", "x", "--port=1"])
        == '["serve", "--api-key", "***", "--port=1"]'
    )
    assert shown(["--token=x"]) == '["--token=***"]'
    assert shown("OPENAI_KEY", "api_key_env") == '"OPENAI_KEY"'
