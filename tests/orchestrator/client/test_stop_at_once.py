"""A stop at once: a stream that is open ends with an error, and is not cut."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pexpect
import pytest

from tests.orchestrator.conftest import Host
from tests.orchestrator.terminal import Terminal
from tests.waiting import eventually


class Stream:
    """An answer that takes minutes, read by a thread."""

    def __init__(self, url: str, key: str) -> None:
        self.lines: list[str] = []
        #: How the connection ended, if not well.
        self.problem = ""
        self._url, self._key = url, key
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        body = {"modelId": "demo", "prompt": "x", "maxTokens": 5000}
        url, headers = f"{self._url}/api/v1/inference/stream", {"X-API-Key": self._key}
        try:
            with httpx.stream("POST", url, json=body, headers=headers, timeout=60) as answer:
                for line in answer.iter_lines():
                    self.lines.append(line)
        except httpx.HTTPError as error:
            self.problem = repr(error)

    def has_begun(self) -> bool:
        return any('"text"' in line for line in self.lines)


@contextmanager
def open_stream(host: Host, terminal: Terminal) -> Iterator[Stream]:
    key = terminal.run("keys", "add").out.strip()
    gateway = host.status().gateway
    assert gateway is not None
    stream = Stream(gateway.url, key)
    eventually(stream.has_begun)
    yield stream
    stream.thread.join(20)
    assert not stream.thread.is_alive()
    assert stream.problem == ""
    assert "event: error" in stream.lines
    (data,) = (line for line in stream.lines if '"code"' in line)
    assert '"code":"draining"' in data
    assert '"retryable":true' in data


def configure(terminal: Terminal, processes: int) -> None:
    terminal.configure(demo={"engine_args": {"tokens_per_s": 10}})
    text = terminal.config.read_text()
    text = text.replace('"processes": 1', f'"processes": {processes}')
    terminal.config.write_text(text.replace('"drain_timeout_s": 5', '"drain_timeout_s": 300'))


@pytest.mark.parametrize("processes", [1, 2])
def test_stop_now(processes: int, host: Host, terminal: Terminal) -> None:
    configure(terminal, processes)
    assert terminal.run("start").code == 0
    with open_stream(host, terminal):
        stopped = terminal.run("stop", "--now")
    assert stopped.code == 0, stopped
    assert host.processes() == []


def test_the_second_ctrl_c_of_a_stop_that_waits(host: Host, terminal: Terminal) -> None:
    configure(terminal, 2)
    assert terminal.run("start").code == 0
    with open_stream(host, terminal):
        stop = terminal.spawn("stop")
        stop.expect("draining")
        stop.sendintr()
        stop.expect("stopping at once")
        stop.expect(pexpect.EOF)
    assert stop.wait() == 0
    assert host.processes() == []


def test_the_second_ctrl_c_in_the_foreground(host: Host, terminal: Terminal) -> None:
    configure(terminal, 1)
    start = terminal.spawn("start", "--foreground")
    start.expect("Ctrl-C stops everything")
    with open_stream(host, terminal):
        start.sendintr()
        start.expect("Ctrl-C again stops at once")
        start.expect("draining")
        start.sendintr()
        start.expect("stopping at once")
        start.expect(pexpect.EOF)
    assert start.wait() == 0
    assert host.processes() == []
