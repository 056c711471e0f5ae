"""`./ew restart` and `./ew config diff`, with the real gateway and workers."""

from __future__ import annotations

import json
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from orchestrator.answers import read_events
from tests.orchestrator.conftest import Host, eventually
from tests.orchestrator.terminal import Terminal


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
        """The names of the events of an answer; `began` is when the first token has come."""
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
