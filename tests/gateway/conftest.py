"""A real gateway (`python -m gateway`), its clients, and workers that follow a script."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import openai
import pytest

from contract.keys import KeyRecord, NewKey, make_key
from contract.process.ports import free_port
from tests.gateway.scripted_worker import ScriptedWorker

ROOT = Path(__file__).parents[2]
#: Constants of the gateway's modules with which it looks at its models and replies often.
LOOK_OFTEN: dict[str, Any] = {
    "gateway.jobs.models._LOOK_EVERY_S": 0.05,
    "gateway.lifecycle.housekeeping._SCAN_EVERY_S": (0.05, 0.05),
}
#: Runs a gateway in which constants of its modules have other values: long intervals are shorter.
_WITH_CONSTANTS = """
import json, sys
from importlib import import_module
for name, value in json.loads(sys.argv[1]).items():
    module, _, constant = name.rpartition(".")
    assert hasattr(import_module(module), constant), name
    setattr(import_module(module), constant, value)
from gateway.__main__ import main
sys.exit(main())
"""


def with_constants(constants: dict[str, Any]) -> list[str]:
    """Return the command of a gateway in which constants of modules, by full name, are others."""
    return [sys.executable, "-c", _WITH_CONSTANTS, json.dumps(constants)]


class Gateway:
    """A gateway and its state directory."""

    def __init__(
        self, directory: Path, redis_url: str, config: dict[str, Any], key: NewKey | None = None
    ) -> None:
        self.directory = directory
        self.redis_url = redis_url
        self.config = config
        self.port = free_port()
        scheme = "https" if config.get("gateway", {}).get("tls") else "http"
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        #: The certificates that its clients trust, as httpx takes them.
        self.verify: ssl.SSLContext | bool = True
        self.key = key or make_key("everything")
        self.log = directory / "gateway.log"
        self.command = [sys.executable, "-m", "gateway"]
        self.process: subprocess.Popen[bytes] | None = None
        self.write_config()
        self.write_keys(self.key)

    def write_config(self) -> None:
        path = self.directory / "config.json"
        path.with_suffix(".new").write_text(json.dumps(self.config))
        path.with_suffix(".new").rename(path)

    def write_keys(self, *keys: NewKey | KeyRecord) -> None:
        records = [key.record if isinstance(key, NewKey) else key for key in keys]
        path = self.directory / "keys.json"
        new = path.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(records))
        new.chmod(0o600)
        new.rename(path)

    def start(self) -> None:
        environment = {
            **os.environ,
            "EW_CONFIG": str(self.directory / "config.json"),
            "EW_STATE_DIR": str(self.directory),
            "EW_REDIS_URL": self.redis_url,
            "EW_GATEWAY__PORT": str(self.port),
            "EW_LOG_LEVEL": "DEBUG",
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, cwd=ROOT, env=environment, stderr=log)
        try:
            self.wait_until(lambda: self.answers("/health/live"), 90)
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """SIGKILL, and gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, timeout_s: float = 40) -> int:
        """SIGTERM; answers the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(timeout_s)

    def wait_until_ready(self) -> None:
        self.wait_until(lambda: self.answers("/health/ready"), 40)

    def wait_until(self, condition: Callable[[], bool], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()[-4000:]
            time.sleep(0.02)

    async def wait_for_log(self, text: str, timeout_s: float = 40) -> None:
        """Return once the log has the text."""
        await asyncio.to_thread(self.wait_until, lambda: text in self.log.read_text(), timeout_s)

    def answers_ready(self) -> bool:
        return self.answers("/health/ready")

    def answers(self, path: str) -> bool:
        try:
            return httpx.get(self.url + path, verify=self.verify).status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture(scope="session")
def model_names(request: pytest.FixtureRequest) -> list[str]:
    """One for each test that may ask for one, in whichever process it runs, and some for tests that
    take a second one."""
    asking = sum(bool({"model", "_models"} & {*_fixtures(item)}) for item in request.session.items)
    return [f"m{number}" for number in range(asking + 10)]


def _fixtures(item: pytest.Item) -> list[str]:
    return item.fixturenames if isinstance(item, pytest.Function) else []


@pytest.fixture(scope="session")
def gateway(
    redis_url: str, tmp_path_factory: pytest.TempPathFactory, model_names: list[str]
) -> Iterator[Gateway]:
    """One for all tests that neither stop it nor need other limits."""
    config = {
        "models": {model: {"engine": "mock", "model_path": "none"} for model in model_names},
        "gateway": {"processes": 1},
        "limits": {
            "max_body_bytes": 100_000,
            "max_output_len": 1000,
            "max_choices": 3,
            "max_logprobs": 50_000,
        },
    }
    started = Gateway(tmp_path_factory.mktemp("gateway"), redis_url, config)
    started.start()
    yield started
    assert started.stop() == 0, started.log.read_text()


@pytest.fixture(scope="session")
def _models(model_names: list[str]) -> Iterator[str]:
    return iter(model_names)


@pytest.fixture
def model(_models: Iterator[str]) -> str:
    """A configured model that no other test uses."""
    return next(_models)


@pytest.fixture
async def worker(redis_url: str, model: str) -> AsyncIterator[ScriptedWorker]:
    """A ready worker of `model`."""
    async with ScriptedWorker(redis_url, model) as ready:
        yield ready


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    """With a key for everything."""
    async with client_of(gateway) as connected:
        yield connected


def client_of(gateway: Gateway, connections: int = 100) -> httpx.AsyncClient:
    headers = {"X-API-Key": gateway.key.text}
    limits = httpx.Limits(max_connections=connections + 1)
    return httpx.AsyncClient(
        base_url=gateway.url, headers=headers, timeout=30, limits=limits, verify=gateway.verify
    )


@asynccontextmanager
async def served(gateway: Gateway) -> AsyncIterator[tuple[ScriptedWorker, httpx.AsyncClient]]:
    """Yield a worker of model `m` of a gateway, and a client with a key for everything."""
    async with ScriptedWorker(gateway.redis_url, "m") as worker, client_of(gateway) as client:
        yield worker, client


async def stays_open(answer: asyncio.Future[Any], for_s: float) -> None:
    """Fail if an answer ends within so many seconds."""
    done, _ = await asyncio.wait([answer], timeout=for_s)
    assert not done, answer.result()


@pytest.fixture
def new_gateway(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """Makes gateways of the test's own: `new_gateway(redis_url, limits={...})`. `constants` gives
    values for constants of the gateway's modules, by their full names."""
    made: list[Gateway] = []

    def make(
        redis_url: str,
        key: NewKey | None = None,
        *,
        start: bool = True,
        constants: dict[str, Any] | None = None,
        **config: Any,
    ) -> Gateway:
        directory = tmp_path / f"gateway-{len(made)}"
        directory.mkdir()
        models = {"m": {"engine": "mock", "model_path": "none"}}
        whole = {"models": models, "gateway": {"processes": 1}, **config}
        made.append(Gateway(directory, redis_url, whole, key))
        if constants:
            made[-1].command = with_constants(constants)
        if start:
            made[-1].start()
        return made[-1]

    yield make
    for gateway in made:
        if gateway.process is not None and gateway.process.poll() is None:
            gateway.kill()


@pytest.fixture
async def openai_client(gateway: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key=gateway.key.text, max_retries=0, timeout=30
    ) as client:
        yield client
