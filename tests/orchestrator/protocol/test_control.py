"""The supervisor's socket, and clients of every kind."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time

import pytest
from msgspec.structs import replace

from contract.messages import State
from contract.paths import make_run_dir, run_dir
from contract.supervision.control import socket_path
from contract.supervision.last_seen import is_supervised, without_the_dead
from contract.supervision.status import status_path
from orchestrator.client.foreground import lifeline
from orchestrator.client.reach import is_running
from orchestrator.system.mutex import Mutex
from tests.orchestrator.conftest import Host
from tests.orchestrator.terminal import Terminal
from tests.waiting import eventually


def say(line: bytes) -> dict[str, str]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(socket_path()))
        client.sendall(line)
        answer: dict[str, str] = json.loads(client.makefile().readline())
        return answer


def test_nonsense_is_refused_and_hurts_nobody(host: Host, model: str) -> None:
    host.start(host.worker(model))
    for line in (b"\n", b"hello\n", b'{"type": "explode"}\n', b'{"type": "start"}\n', b"\xff\n"):
        answer = say(line)
        assert answer["type"] == "refused"
        assert answer["message"].startswith("the supervisor does not understand")
    assert host.start(host.worker(model))[1].note == "runs already"


def test_one_who_hangs_up_without_a_word_hurts_nobody(host: Host, model: str) -> None:
    host.start(host.worker(model))
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(socket_path()))
    assert host.start(host.worker(model))[1].note == "runs already"


class OldSupervisor(threading.Thread):
    """Holds a supervisor's mutex and socket, says what it is told to each client, or nothing, and
    then leaves."""

    def __init__(self, *says: bytes, stays_s: float = 0.5) -> None:
        super().__init__()
        self._says = says
        self._stays_s = stays_s
        self._mutex = Mutex(make_run_dir() / "supervisor.mutex")
        assert self._mutex.acquire()
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(socket_path()))
        self._server.listen()
        self.start()

    def run(self) -> None:
        client, _ = self._server.accept()
        while not client.recv(1):
            # That one only looked whether anybody is here.
            client.close()
            client, _ = self._server.accept()
        self._server.close()
        socket_path().unlink()
        with client:
            for line in self._says:
                client.sendall(line)
        # A daemon still has this to do once it does not listen any more.
        time.sleep(self._stays_s)
        self._mutex.release()


def test_who_meets_a_supervisor_that_is_just_leaving_gets_another(
    host: Host, terminal: Terminal
) -> None:
    terminal.configure(demo={})
    leaver = OldSupervisor()
    start = terminal.run("start")
    leaver.join()
    assert start.code == 0, start
    assert host.find_worker("demo-0").state is State.READY


@pytest.mark.parametrize("says", [[], [b'{"type":"finished","outcomes":[]}\n']])
def test_a_foreground_start_that_meets_one_who_is_leaving_holds_on_to_the_next(
    host: Host, says: list[bytes]
) -> None:
    leaver = OldSupervisor(*says)
    with lifeline() as events:
        leaver.join()
        assert next(events) is None
        assert host.supervisor_pid() != os.getpid()
    eventually(lambda: not is_running())


def test_a_supervisor_of_another_version_is_told_in_words(host: Host, terminal: Terminal) -> None:
    terminal.configure(demo={})
    older = OldSupervisor(b'{"type":"progress","slot":"demo-0","state":"daydreaming"}\n')
    start = terminal.run("start")
    older.join()
    assert start.code == 1
    assert "error: the supervisor that runs is of another version of ew" in start.err
    assert "`./ew restart` goes over to this version" in start.err


def test_a_run_of_another_version_is_left_to_its_supervisor(host: Host, terminal: Terminal) -> None:
    terminal.configure(demo={})
    assert terminal.run("start").code == 0
    file = run_dir() / "processes.json"
    run = file.read_bytes().replace(b'"spec"', b'"wanted"')
    file.write_bytes(run)
    for arguments in (["restart"], ["config", "diff"]):
        refused = terminal.run(*arguments)
        assert refused.code == 1
        assert "what runs was started by another version of ew" in refused.err
        assert "`./ew stop`, then `./ew start`" in refused.err
    doctor = terminal.run("doctor")
    assert "was started by another version of ew" in doctor.out + doctor.err
    assert "orphan" not in doctor.out + doctor.err
    assert file.read_bytes() == run
    assert terminal.run("stop").code == 0
    assert host.processes() == []


@pytest.mark.parametrize("content", [b"", b"{", b'{"written_unix_s": "today"}', b"\xff\xfe"])
def test_a_status_that_cannot_be_understood_is_told_and_stop_works_all_the_same(
    host: Host, terminal: Terminal, content: bytes
) -> None:
    terminal.configure(demo={})
    assert terminal.run("start").code == 0
    supervisor = host.supervisor_pid()
    os.kill(supervisor, signal.SIGSTOP)
    try:
        status_path().write_bytes(content)
        for command in ("status", "models", "chat demo"):
            said = terminal.run(*command.split(), stdin="hi")
            assert said.code == 1
            assert f"error: {status_path()} cannot be understood" in said.err
            assert "./ew stop" in said.err
    finally:
        os.kill(supervisor, signal.SIGCONT)
    assert terminal.run("stop").code == 0
    assert host.processes() == []


def test_a_pid_that_has_changed_hands_is_not_what_ran(host: Host, terminal: Terminal) -> None:
    """All are gone, and this test has got their pids."""
    terminal.configure(demo={})
    assert terminal.run("start").code == 0
    seen = host.status()
    host.kill_supervisor()
    terminal.run("stop", "--now")
    assert seen.gateway and seen.redis and seen.supervisor
    ours = os.getpid()
    (model,) = seen.models
    (worker,) = model.workers
    assert worker.start_ticks
    forged = replace(
        seen,
        supervisor=replace(seen.supervisor, pid=ours),
        gateway=replace(seen.gateway, pid=ours),
        redis=replace(seen.redis, pid=ours),
        models=[replace(model, workers=[replace(worker, pid=ours)])],
    )
    assert not is_supervised(forged)
    left = without_the_dead(forged)
    assert left.gateway and left.redis
    states = {left.gateway.state, left.redis.state, left.models[0].workers[0].state}
    assert states == {State.STOPPED}
