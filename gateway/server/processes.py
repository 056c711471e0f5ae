"""The processes that serve: started, watched, replaced and stopped on the same sockets."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from types import FrameType
from typing import Final

import uvicorn
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from contract.config import ConfigError, GatewayConfig, load_config
from contract.paths import config_path
from contract.process.tls import files_of
from gateway.lifecycle.process import HURRY, REPLACED
from gateway.server.http_guard import GuardedProtocol
from gateway.server.tls import context_factory

log = logging.getLogger(__name__)
_NOT_OURS: Final = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)
_MOST_BY_DEFAULT: Final = 8
_CORES_PER_PROCESS: Final = 4
#: Longer than proxies keep idle connections, so that none is closed while it is being used.
_KEEP_ALIVE_S: Final = 75
#: uvicorn kills a process that does not answer for so long, also while it still imports; its
#: own 5 s are too short on a machine that is busy loading models.
_SLOWEST_START_S: Final = 60
#: The time for telling the clients of answers that are cut at the end of draining.
_LAST_WORDS_S: Final = 7


class Processes(Multiprocess):
    """Those that serve, on the same sockets, and the word for them to hurry. Where one is enough
    it is this one, until it is replaced: from then on it only looks after its successors."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        # uvicorn takes every signal, also those that it does nothing about.
        others = {number: signal.getsignal(number) for number in _NOT_OURS}
        super().__init__(config, sockets)
        for number, handler in others.items():
            signal.signal(number, handler)
        #: Those that were replaced, and whose open answers have not ended yet.
        self._leaving: list[Process] = []
        #: Brings the first successor into service, while this process serves.
        self._heir: threading.Thread | None = None

    def run(self) -> None:
        """Look after the others."""
        # Not through the queue of signals: it is not read while the processes drain.
        signal.signal(HURRY, lambda *_: self._pass_on())
        signal.signal(signal.SIGHUP, lambda *_: self.signal_queue.append(signal.SIGHUP))
        super().run()

    def serve(self) -> None:
        """Serve, until told to stop or replaced."""
        server = _FirstServer(self.config, self)
        # uvicorn raises the signal again when it has stopped. Before the application is there,
        # no client waits for an answer.
        for number in (signal.SIGTERM, signal.SIGINT, HURRY):
            signal.signal(number, self._end)
        signal.signal(signal.SIGHUP, lambda *_: self._find_heir(server))
        # It closes the sockets that it is given.
        server.run(sockets=[each.dup() for each in self.sockets])
        if self._heir is not None:
            if _is_told_to_end(self.signal_queue):
                self.should_exit.set()
            self._heir.join()
        if self.processes:
            self.run()

    def init_processes(self) -> None:
        missing = self.processes_num - len(self.processes)
        self.processes += [self._started() for _ in range(missing)]

    def restart_all(self) -> None:
        """Replace the processes by as many as the configuration says now, one after another: each
        listens before the one that it replaces is told to leave. One that cannot start replaces
        nothing."""
        former = list(self.processes)
        if not self._read_config():
            return
        for _ in range(self.processes_num):
            if not self._add() or _is_told_to_end(self.signal_queue):
                return
            self._dismiss(former[:1])
            former = former[1:]
        self._dismiss(former)

    def keep_subprocess_alive(self) -> None:
        self._leaving = [each for each in self._leaving if each.process.is_alive()]
        super().keep_subprocess_alive()

    def refuse_connections(self) -> None:
        """Refuse further connections: no process would accept them from these sockets."""
        for each in self.sockets:
            each.close()

    def terminate_all(self) -> None:
        self.refuse_connections()
        for process in self._leaving:
            _tell(process, REPLACED)
        super().terminate_all()

    def join_all(self) -> None:
        for process in (*self.processes, *self._leaving):
            process.join()

    def end_serving(self) -> None:
        """This process alone serves, and is told to stop."""
        if self._heir is None:
            self.refuse_connections()

    def _end(self, number: int, frame: object) -> None:
        if self._heir is None:
            sys.exit(0)
        self.signal_queue.append(number)

    def _find_heir(self, server: uvicorn.Server) -> None:
        if self._heir is not None and (self._heir.is_alive() or self.processes):
            # The next are found when these have taken over.
            self.signal_queue.append(signal.SIGHUP)
        else:
            self._heir = threading.Thread(target=self._hand_over, args=[server])
            self._heir.start()

    def _hand_over(self, server: uvicorn.Server) -> None:
        if self._read_config() and self._add():
            while len(self.processes) < self.processes_num and self._add():
                pass
            os.kill(os.getpid(), REPLACED)
            server.should_exit = True

    def _read_config(self) -> bool:
        try:
            self.config = server_config(load_config(config_path()).gateway)
        except ConfigError as error:
            log.error("nothing is replaced: %s", error)
            return False
        self.processes_num = self.config.workers
        return True

    def _add(self) -> bool:
        """Start one more and wait until it serves. Returns whether it does."""
        successor = self._started()
        if successor.wait_until_ready(_SLOWEST_START_S, self.should_exit):
            self.processes.append(successor)
            return True
        if self.should_exit.is_set():
            # It may serve by now: what it has taken, it ends.
            self._leaving.append(successor)
            successor.terminate()
        else:
            log.error("a successor does not serve: what is there stays")
            successor.kill()
        successor.join()
        return False

    def _started(self) -> Process:
        process = Process(self.config, self.sockets)
        process.start()
        return process

    def _dismiss(self, processes: list[Process]) -> None:
        """Tell them to end, and don't wait: their open answers may go on for long."""
        for process in processes:
            _tell(process, REPLACED)
            process.terminate()
            self.processes.remove(process)
            self._leaving.append(process)

    def _pass_on(self) -> None:
        for process in (*self.processes, *self._leaving):
            _tell(process, HURRY)
        self.signal_queue.append(signal.SIGTERM)


class _FirstServer(uvicorn.Server):
    """The server in this process. If it is told to end after it was replaced, so are its
    successors, and it has no more time than they."""

    def __init__(self, config: uvicorn.Config, processes: Processes) -> None:
        super().__init__(config)
        self._processes = processes

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit and self._processes.processes:
            self._processes.signal_queue.append(sig)
            signal.raise_signal(REPLACED)
        else:
            self._processes.end_serving()
            super().handle_exit(sig, frame)


def _tell(process: Process, number: signal.Signals) -> None:
    if process.pid is not None and process.process.is_alive():
        os.kill(process.pid, number)


def _is_told_to_end(signals: list[int]) -> bool:
    return not {signal.SIGTERM, signal.SIGINT}.isdisjoint(signals)


def server_config(gateway: GatewayConfig) -> uvicorn.Config:
    """Of one process; `workers` is how many there are."""
    return uvicorn.Config(
        "gateway.server.app:from_environment",
        factory=True,
        host=gateway.host,
        port=gateway.port,
        workers=process_count(gateway.processes, os.cpu_count() or 1),
        loop="uvloop",
        http=GuardedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(gateway.trusted_proxies),
        forwarded_allow_ips=gateway.trusted_proxies,
        ssl_context_factory=None if gateway.tls is None else context_factory(files_of(gateway.tls)),
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_worker_healthcheck=_SLOWEST_START_S,
        timeout_graceful_shutdown=int(gateway.drain_timeout_s) + _LAST_WORDS_S,
    )


def process_count(configured: int, cores: int) -> int:
    """0 leaves room for the engines, which need most of the cores; but where there are enough for
    one, there are two, so that no death of a process ends all streams."""
    if configured or cores < _CORES_PER_PROCESS:
        return configured or 1
    return max(2, min(_MOST_BY_DEFAULT, cores // _CORES_PER_PROCESS))
