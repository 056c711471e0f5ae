"""The heartbeat: it goes on while the loop is busy, and stops when the loop is stuck."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import redis
from redis.asyncio import Redis

from contract.bus import heartbeat_sender as heartbeat_sender
from contract.bus import heartbeats
from contract.bus.client import connect
from contract.bus.heartbeats import Heartbeats
from contract.messages import Heartbeat, State
from contract.process.tasks import cancel_and_wait
from tests.conftest import ValkeyServer
from tests.contract.queue_workers import end_lease
from tests.waiting import until
from workers.heartbeat import WorkerHeartbeat


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeats, "LEASE_MS", 600)
    monkeypatch.setattr(heartbeat_sender, "BEAT_EVERY_S", 0.05)
    monkeypatch.setattr(heartbeat_sender, "HUNG_AFTER_S", 0.5)


@dataclass
class Patient:
    """A worker as its heartbeat sees it."""

    url: str
    model: str
    state: State = State.READY
    lapses: list[float] = field(default_factory=list)

    def heartbeat(self) -> Heartbeat:
        return Heartbeat("w", self.model, "mock", "here", 1, self.state)

    def lease_holds(self) -> bool:
        """Asks without the event loop."""
        with redis.Redis(unix_socket_path=self.url.removeprefix("unix://")) as client:
            ends_ms = client.zscore(f"ew:{{{self.model}}}:leases", "w")
            seconds, micros = client.time()  # type: ignore[misc]
        return ends_ms is not None and ends_ms >= seconds * 1000 + micros / 1000  # type: ignore[operator]

    @asynccontextmanager
    async def beating(self) -> AsyncIterator[WorkerHeartbeat]:
        made = WorkerHeartbeat(
            self.url, self.heartbeat, lambda: self.lapses.append(time.monotonic())
        )
        turning = asyncio.create_task(self._turn(made))
        made.start()
        await until(self.lease_holds)
        try:
            yield made
        finally:
            await made.stop()
            await cancel_and_wait([turning])

    async def _turn(self, made: WorkerHeartbeat) -> None:
        while True:
            made.turned()
            await asyncio.sleep(0.02)


@pytest.fixture
def patient(redis_url: str, unique_model: str) -> Patient:
    return Patient(redis_url, unique_model)


def _stand_still_until(condition: Callable[[], bool]) -> None:
    """Keep the event loop from turning; how long it takes depends on the machine."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "the lease did not end"
        time.sleep(0.05)


async def test_the_lease_holds_as_long_as_it_beats_and_ends_with_it(patient: Patient) -> None:
    async with patient.beating():
        for _ in range(6):
            await asyncio.sleep(0.2)
            assert patient.lease_holds()
        assert patient.lapses == []
    assert not patient.lease_holds()


async def test_a_loop_that_stands_still_loses_its_lease_and_is_told_when_it_turns_again(
    patient: Patient, caplog: pytest.LogCaptureFixture
) -> None:
    async with patient.beating():
        _stand_still_until(lambda: "stands still" in caplog.text)
        _stand_still_until(lambda: not patient.lease_holds())
        for _ in range(20):
            time.sleep(0.05)  # noqa: ASYNC251 - this is what is tested
            assert not patient.lease_holds()
        assert patient.lapses == []
        await until(lambda: bool(patient.lapses))
        assert patient.lease_holds()


async def test_a_loop_that_loads_a_model_may_stand_still(patient: Patient) -> None:
    patient.state = State.STARTING
    async with patient.beating():
        time.sleep(1.2)  # noqa: ASYNC251 - this is what is tested
        assert patient.lease_holds()
    assert patient.lapses == []


async def test_a_lease_that_ended_meanwhile_is_told_once(patient: Patient, db: Redis) -> None:
    async with patient.beating():
        await end_lease(db, patient.model, "w")
        await until(lambda: bool(patient.lapses))
        await asyncio.sleep(0.2)
        assert len(patient.lapses) == 1


async def test_a_beat_whose_answer_was_lost_counts_as_a_lapse(
    own_valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(heartbeats, "LEASE_MS", 60_000)
    patient = Patient(own_valkey.url, "m")
    async with patient.beating():
        own_valkey.kill()
        await until(lambda: "no heartbeat" in caplog.text)
        own_valkey.start()
        await until(lambda: bool(patient.lapses))
        assert patient.lease_holds()
        await asyncio.sleep(0.2)
        assert len(patient.lapses) == 1


async def test_a_change_is_told_at_once_when_asked(
    patient: Patient, db: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat_sender, "BEAT_EVERY_S", 60)
    monkeypatch.setattr(heartbeats, "LEASE_MS", 60_000)
    patient.state = State.STARTING
    async with patient.beating() as made:
        assert await db.zcard(f"ew:{{{patient.model}}}:ready") == 0
        patient.state = State.READY
        made.beat_now()
        await until(patient.lease_holds)
        await until(lambda: _is_ready(db, patient.model))


async def _is_ready(db: Redis, model: str) -> bool:
    return bool(await db.zcard(f"ew:{{{model}}}:ready"))


async def test_stopping_without_a_server_is_no_error(own_valkey: ValkeyServer) -> None:
    patient = Patient(own_valkey.url, "m")
    async with patient.beating():
        own_valkey.kill()
    own_valkey.start()
    db = connect(own_valkey.url)
    assert await Heartbeats(db, "m").names() <= {"w"}
    await db.aclose()
