"""An engine that hangs takes no answer along: its worker leaves, and says why."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest

from contract.bus.cancellations import Cancellations
from contract.config import WorkerSpec
from contract.endings import ENGINE_HUNG
from contract.messages import ErrorCode, Job, State
from tests.waiting import until
from tests.workers.client import Client
from tests.workers.read_answer import assert_counted
from tests.workers.test_worker import ByHand, working
from tests.workers.worker_processes import WorkerProcesses, a_spec
from workers.engine import CannotServe, JobRejected
from workers.engine_state import EngineHung, EngineLoad
from workers.engines.mock import MockEngine
from workers.watching import watchdog
from workers.watching.watchdog import Watchdog
from workers.worker import Worker

QUICK: Final = {"token_s": 2, "first_token_s": 0.5, "canary_every_s": 0}


async def nothing_comes(client: Client) -> None:
    """Return once the engine, with open answers in it, has said nothing for a while."""
    while (before := len(client.envelopes)) >= 0:
        await asyncio.sleep(0.2)
        if len(client.envelopes) == before:
            return


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let watchdogs in this process look ten times as often."""
    monkeypatch.setattr(watchdog, "_LOOK_EVERY_S", 0.1)


class Counting(MockEngine):
    """Knows what was asked of it."""

    def __init__(self, spec: WorkerSpec) -> None:
        super().__init__(spec)
        self.asked: list[str] = []

    @property
    def canaries(self) -> list[str]:
        return [job_id for job_id in self.asked if job_id.startswith("canary")]

    async def submit(self, job: Job) -> None:
        self.asked.append(job.id)
        await super().submit(job)


async def test_answers_of_a_hung_engine_go_on_elsewhere(
    client: Client, workers: WorkerProcesses
) -> None:
    hung = await workers.start(watchdog=QUICK).ready()
    answers = [await client.ask(600) for _ in range(4)]
    await client.saw_tokens(answers, 5)
    culprit = await client.ask(50, "[[freeze_at=3]]")
    await client.saw_tokens([culprit], 3)
    await nothing_comes(client)
    assert hung.process.poll() is None
    assert await hung.exits() == ENGINE_HUNG
    assert "the engine has stood still for 2 s, with 5 jobs in it" in hung.log()
    await Cancellations(client.db, client.queue.model).announce(culprit)
    await workers.start().ready()
    await client.ended(answers)
    for job_id in answers:
        assert_counted(client.answers[job_id], 600)


async def test_an_engine_that_never_begins_an_answer_is_hung_too(
    client: Client, workers: WorkerProcesses
) -> None:
    worker = await workers.start(watchdog=QUICK).ready()
    await client.ask(50, "[[freeze_at=0]]")
    assert await worker.exits() == ENGINE_HUNG


async def test_a_canary_finds_an_engine_that_hangs_while_nobody_asks(
    client: Client, workers: WorkerProcesses
) -> None:
    worker = await workers.start(watchdog={**QUICK, "token_s": 100, "canary_every_s": 1}).ready()
    job_id = await client.ask(50, "[[freeze_at=3]]")
    await client.saw_tokens([job_id], 3)
    await nothing_comes(client)
    await Cancellations(client.db, client.queue.model).announce(job_id)
    assert await worker.exits() == ENGINE_HUNG
    assert "with only a canary in it" in worker.log()


async def test_a_job_that_gets_nowhere_alone_is_no_hung_engine(client: Client, often: None) -> None:
    engine = Counting(a_spec(client, "w"))
    async with working(client, engine, watchdog={**QUICK, "token_s": 0.4}) as worker:
        stuck = await client.ask(50, "[[hang_at=3]]")
        await client.saw_tokens([stuck], 3)
        # Each is sent after half of `token_s` without a word: longer than an engine may be silent.
        await client.see(lambda: engine.asked.count(stuck) == 1 and len(engine.canaries) >= 5)
        assert len(client.answers[stuck].tokens) == 3
        later = await client.ask(5)
        await client.ended([later])
        assert not worker.outbox.died.done()
        assert len(client.answers[stuck].attempts) == 1


async def test_a_healthy_engine_outlives_its_canaries_and_counts_none(
    client: Client, often: None
) -> None:
    engine = Counting(a_spec(client, "w"))
    async with working(client, engine, watchdog={**QUICK, "canary_every_s": 0.2}) as worker:
        await client.see(lambda: len(engine.asked) >= 4)
        assert worker.state is State.READY
        assert (worker.outbox.jobs_total, worker.outbox.generated_tokens_total) == (0, 0)
    assert engine.asked[:4] == ["canary-0", "canary-1", "canary-2", "canary-3"]


class Mute(ByHand):
    """Loads, and never answers."""

    def __init__(self, load: EngineLoad) -> None:
        super().__init__()
        self.load = load

    async def submit(self, job: Any) -> None:
        self.outbox.report_load(self.load)


@pytest.mark.parametrize(
    ("load", "kind", "said"),
    [
        (EngineLoad(waiting=1), CannotServe, "its cache has no room for a sequence"),
        (EngineLoad(waiting=1, deferred=1), CannotServe, "it waits for something else than room"),
        (EngineLoad(), EngineHung, "answered nothing for 1 s"),
    ],
)
async def test_an_engine_that_does_not_answer_is_never_ready(
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    load: EngineLoad,
    kind: type[Exception],
    said: str,
) -> None:
    monkeypatch.setattr(watchdog, "_NOT_BEGUN_S", 0.5)
    spec = a_spec(client, "w", watchdog={**QUICK, "first_token_s": 0.25})
    worker = Worker(spec, Mute(load))
    with pytest.raises(kind, match=said):
        await worker.run()
    assert worker.state is State.STARTING


class Reading(ByHand):
    """Takes tools or not, and is ended by the first chat that it takes: it goes on taking requests,
    and answers none."""

    def __init__(self, takes: str) -> None:
        super().__init__()
        self.takes = takes
        self.chats: list[str] = []

    async def submit(self, job: Job) -> None:
        if job.messages is not None:
            asked = "a chat with tools" if job.tools is not None else "a chat"
            self.chats.append(asked)
            if asked != self.takes:
                raise JobRejected(ErrorCode.INVALID_REQUEST, "not here")
            return
        await super().submit(job)


@pytest.mark.parametrize("takes", ["a chat with tools", "a chat"])
async def test_an_engine_that_does_not_survive_a_chat_is_never_ready(
    client: Client, takes: str
) -> None:
    engine = Reading(takes)
    worker = Worker(a_spec(client, "w", watchdog={**QUICK, "first_token_s": 0.1}), engine)
    with pytest.raises(EngineHung, match="answered nothing to a chat for 0 s"):
        await worker.run()
    assert engine.chats[-1] == takes


async def test_a_model_that_takes_no_chats_is_ready(client: Client) -> None:
    engine = Reading("nothing")
    async with working(client, engine) as worker:
        await until(lambda: worker.state is State.READY)
        assert engine.chats == ["a chat with tools", "a chat"]


async def test_no_canary_is_in_an_engine_that_is_to_sleep(client: Client, often: None) -> None:
    engine = ByHand()
    async with working(client, engine, watchdog={**QUICK, "canary_every_s": 0.1}) as worker:
        await client.see(lambda: bool(engine.submitted))
        await worker.watchdog.rest()
        assert engine.cancelled == ["canary-2"]
        await looks(worker, 3)
        assert len(engine.submitted) == 1


async def looks(worker: Worker, count: int) -> None:
    """Return once the watchdog has looked so often."""
    done = asyncio.Event()
    look, left = worker.watchdog._look, iter(range(count))

    async def counted() -> None:
        await look()
        if next(left, None) is None:
            done.set()

    worker.watchdog._look = counted  # type: ignore[method-assign]
    await asyncio.wait_for(done.wait(), 20)


async def test_a_server_elsewhere_is_not_watched(client: Client, often: None) -> None:
    class Elsewhere(ByHand):
        async def start(self, outbox: Any) -> Any:
            return (await super().start(outbox))._replace(is_local=False)

    engine = Elsewhere()
    quick = {"token_s": 0.2, "first_token_s": 0.01, "canary_every_s": 0.1}
    async with working(client, engine, watchdog=quick) as worker:
        job_id = await client.ask(5)
        await client.see(lambda: len(engine.submitted) == 1)
        # It is run for no server elsewhere; longer than it would have waited for a word.
        await asyncio.sleep(0.25)
        assert not worker.outbox.died.done()
        assert [job.id for job in engine.submitted] == [job_id]


async def test_the_time_to_read_a_long_prompt_is_granted(client: Client) -> None:
    engine = ByHand()
    async with working(client, engine) as worker:
        short, long = await client.ask(5), await client.ask(5, "word " * 3000)
        await client.see(lambda: len(engine.submitted) == 2)
        dog: Watchdog = worker.watchdog
        answers = {answer.attempt.job.id: answer for answer in worker.outbox.answers()}
        worker.outbox.hear()
        await until(lambda: _heard(dog))
        assert int(dog._allowed_s([answers[short]])) == 60
        assert dog._allowed_s(answers.values()) == 60 + 5000 / 200
        engine.say(long, 0, 1)
        assert dog._allowed_s([answers[long]]) == 30


async def _heard(dog: Watchdog) -> bool:
    return dog._heard > dog._heard_before
