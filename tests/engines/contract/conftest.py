"""Runs every test over the engines that can do what it needs; one worker serves all tests of
its engine, and is replaced when a test has ended it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from contract.config import ModelConfig, WorkerSpec
from tests.engines.contract.engines import ENGINES, EngineUnderTest
from tests.engines.contract.harness import Client, WorkerProcess, run_apart


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*abilities): run over the engines that have them")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "served" not in metafunc.fixturenames:
        return
    needed = {name for mark in metafunc.definition.iter_markers("needs") for name in mark.args}
    engines = [
        pytest.param(engine, id=engine.name, marks=engine.marks)
        for engine in ENGINES
        if needed <= engine.can and engine.only_for <= needed
    ]
    metafunc.parametrize("served", engines, indirect=True, scope="session")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One engine after the other: pytest's own order would start some of them several times."""
    places = {engine.name: place for place, engine in enumerate(ENGINES)}
    items.sort(key=lambda item: places.get(_engine_name(item), -1))


def _engine_name(item: pytest.Item) -> str:
    params = item.callspec.params if hasattr(item, "callspec") else {}
    return params["served"].name if "served" in params else ""


class Served:
    """A model of the test's own, served by workers with the engine under test."""

    def __init__(
        self, engine: EngineUnderTest, model: ModelConfig, redis_url: str, directory: Path
    ) -> None:
        self.engine = engine
        self.model = model
        self.model_id = f"m-{uuid.uuid4().hex[:8]}"
        self.redis_url = redis_url
        self.directory = directory
        self.workers: list[WorkerProcess] = []

    def start_worker(self) -> WorkerProcess:
        """Start one more; it is not ready yet."""
        name = f"{self.model_id}-{len(self.workers)}"
        spec = WorkerSpec(
            name=name,
            model_id=self.model_id,
            model=self.model,
            engine=self.engine.engine,
            env="-",
            redis_url=self.redis_url,
            drain_s=0.5,
        )
        python, log = self.engine.python(), self.directory / f"{name}.log"
        worker = WorkerProcess(spec, python, self.engine.environment, log)
        self.workers.append(worker)
        return worker

    async def ensure_worker(self) -> None:
        """Return when a worker is ready."""
        if not any(worker.is_alive for worker in self.workers):
            await self.start_worker().wait_until_ready(self.engine.start_timeout_s)

    def worker(self, name: str) -> WorkerProcess:
        return next(worker for worker in self.workers if worker.name == name)

    def end(self) -> None:
        for worker in self.workers:
            worker.kill()


@pytest.fixture(scope="session")
def served(
    request: pytest.FixtureRequest, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    engine: EngineUnderTest = request.param
    directory = tmp_path_factory.mktemp(engine.name)
    with ExitStack() as stack:
        model = ModelConfig(**engine.model(stack, directory))
        serving = Served(engine, model, redis_url, directory)
        stack.callback(serving.end)
        run_apart(serving.ensure_worker())
        yield serving


@pytest.fixture
async def client(served: Served) -> AsyncIterator[Client]:
    await served.ensure_worker()
    client = Client(served.redis_url, served.model_id, served.engine.max_model_len)
    await client.open()
    yield client
    await client.close()
