"""A gateway of several processes, of which one dies: the others serve, none is turned away."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
import psutil
import pytest

from contract.messages import State
from tests.orchestrator.conftest import Host, is_alive
from tests.orchestrator.terminal import Terminal
from tests.waiting import eventually

ASK = {
    "model": "demo",
    "messages": [{"role": "user", "content": "hi"}],
    "stream": True,
}
#: As long as a gateway may take to be replaced; and longer than a test.
TOKENS, MANY = 60, 600


class Stream:
    """An answer of the OpenAI API that is being read."""

    def __init__(self, url: str, key: str, tokens: int) -> None:
        self.ask = ASK | {"max_tokens": tokens}
        self.lines: list[str] = []
        self.began = threading.Event()
        self._asked = (f"{url}/v1/chat/completions", {"Authorization": f"Bearer {key}"})
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        url, headers = self._asked
        try:
            with httpx.stream("POST", url, json=self.ask, headers=headers, timeout=60) as answer:
                for line in answer.iter_lines():
                    if line.startswith("data: "):
                        self.lines.append(line)
                        self.began.set()
        except httpx.TransportError:
            self.lines.append("cut")

    def end(self) -> str:
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.lines[-1]


@pytest.fixture
def url(host: Host, terminal: Terminal) -> str:
    """Of a gateway with two processes, in front of a model that says 10 tokens a second."""
    terminal.configure(demo={"engine_args": {"tokens_per_s": 10}})
    configuration = json.loads(terminal.config.read_text())
    configuration["gateway"] |= {"processes": 2, "drain_timeout_s": 1}
    terminal.config.write_text(json.dumps(configuration))
    assert terminal.run("start").code == 0
    eventually(lambda: len(host.status().gateway.processes) == 2)
    return str(host.status().gateway.url)


@contextmanager
def knocking(url: str) -> Iterator[None]:
    """Open one connection after the other meanwhile; each must be answered."""
    failures: list[str] = []
    is_over = threading.Event()

    def knock() -> None:
        while not is_over.wait(0.02):
            try:
                assert httpx.get(f"{url}/health/live", timeout=20).status_code == 200
            except (httpx.TransportError, AssertionError) as error:
                failures.append(repr(error))

    thread = threading.Thread(target=knock)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
    assert not failures


def open_streams(url: str, terminal: Terminal, tokens: int = TOKENS) -> list[Stream]:
    key = terminal.run("keys", "add").out.strip()
    streams = [Stream(url, key, tokens) for _ in range(8)]
    for stream in streams:
        assert stream.began.wait(20)
    return streams


def test_when_the_parent_dies_all_streams_end_well_and_nobody_is_turned_away(
    host: Host, terminal: Terminal, url: str
) -> None:
    before = host.status().gateway
    streams = open_streams(url, terminal)
    with knocking(url):
        os.kill(before.pid or 0, signal.SIGKILL)
        eventually(lambda: len(set(host.status().gateway.processes) - {*before.processes}) == 2)
        assert {stream.end() for stream in streams} == {"data: [DONE]"}
        eventually(lambda: not any(map(is_alive, before.processes)))
    assert host.status().gateway.restarts == 1


def test_one_process_that_dies_costs_its_own_streams_only(
    host: Host, terminal: Terminal, url: str
) -> None:
    before = host.status().gateway
    streams = open_streams(url, terminal)
    # Which process a connection comes to is the kernel's choice.
    killed = before.processes[0]
    spared = 8 - connections_of(killed)
    os.kill(killed, signal.SIGKILL)
    assert [stream.end() for stream in streams].count("data: [DONE]") == spared
    eventually(lambda: len({*host.status().gateway.processes} - {killed}) == 2)
    assert host.status().gateway.pid == before.pid


def connections_of(pid: int) -> int:
    connections = psutil.Process(pid).net_connections("tcp")
    return sum(each.status == psutil.CONN_ESTABLISHED for each in connections)


def test_streams_survive_the_parent_and_the_supervisor(
    host: Host, terminal: Terminal, url: str
) -> None:
    before = host.status().gateway
    streams = open_streams(url, terminal)
    with knocking(url):
        host.kill_supervisor()
        os.kill(before.pid or 0, signal.SIGKILL)
        assert terminal.run("start").code == 0
        eventually(lambda: len(set(host.status().gateway.processes) - {*before.processes}) == 2)
        assert {stream.end() for stream in streams} == {"data: [DONE]"}


@pytest.mark.parametrize("how", [[], ["--now"]], ids=["stop", "at once"])
def test_a_stop_tells_the_clients_of_former_processes(
    host: Host, terminal: Terminal, url: str, how: list[str]
) -> None:
    before = host.status().gateway
    streams = open_streams(url, terminal, MANY)
    os.kill(before.pid or 0, signal.SIGKILL)
    eventually(lambda: len(set(host.status().gateway.processes) - {*before.processes}) == 2)
    # Even if they hear of it late: the gateway itself has nothing to finish, and ends at once.
    for pid in before.processes:
        os.kill(pid, signal.SIGSTOP)
    assert terminal.run("stop", *how).code == 0
    assert all("draining" in stream.end() for stream in streams)
    assert host.processes() == []


def test_a_stop_tells_them_when_the_gateway_was_given_up(
    host: Host, terminal: Terminal, url: str
) -> None:
    streams = open_streams(url, terminal, MANY)

    def is_given_up() -> bool:
        gateway = host.status().gateway
        if gateway.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(gateway.pid, signal.SIGKILL)
        return gateway.state is State.FAILED

    eventually(is_given_up)
    assert terminal.run("stop").code == 0
    assert all("draining" in stream.end() for stream in streams)
    assert host.processes() == []
