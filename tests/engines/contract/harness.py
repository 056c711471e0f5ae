"""A worker process as the supervisor starts it, and a client that puts jobs and reads their
answers as a gateway does."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
import time
import uuid
from array import array
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from contract.asked import Pooling, PromptReport, Speech, Template, Tools, TraceContext
from contract.bus.cancellations import Cancellations
from contract.bus.client import connect, connect_reader
from contract.bus.heartbeats import GATEWAYS, Heartbeats
from contract.bus.queue import JobQueue
from contract.bus.replies import ReplyStream, read_frames
from contract.config import WorkerSpec
from contract.gateway_beat import GatewayBeat
from contract.messages import (
    ChatMessage,
    Delta,
    Done,
    Envelope,
    Failed,
    Heartbeat,
    Job,
    PromptDelta,
    PromptToken,
    Sampling,
    Started,
    State,
    TokenLogprob,
    ToolCallDelta,
    VectorDelta,
)
from contract.paths import ROOT
from contract.process.tasks import cancel_and_wait
from tests.contract.queue_workers import put_one, serve
from workers.answers.transcript import REASONING, kind_of

T = TypeVar("T")
#: The longest that one answer of a small model takes, also on a busy machine.
ANSWER_S = 60.0


class WorkerProcess:
    """`python -m workers` under an engine's own python, in a session of its own."""

    def __init__(
        self, spec: WorkerSpec, python: str, environment: Mapping[str, str], log: Path
    ) -> None:
        self.spec = spec
        self.name = spec.name
        self.log = log
        path = os.pathsep.join(filter(None, [environment.get("PYTHONPATH"), str(ROOT)]))
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [python, "-m", "workers"],
                cwd=ROOT,
                env={
                    **os.environ,
                    **environment,
                    "PYTHONPATH": path,
                    "EW_WORKER": spec.model_dump_json(),
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    async def wait_until_ready(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        db = connect(self.spec.redis_url, connections=1)
        try:
            while (await self._state(db)) is not State.READY:
                assert self.is_alive, f"{self.name} ended:\n{self.last_words()}"
                assert time.monotonic() < deadline, f"{self.name} hangs:\n{self.last_words()}"
                await asyncio.sleep(0.05)
        finally:
            await db.aclose()

    async def _state(self, db: Any) -> State | None:
        for beat in await Heartbeats(db, self.spec.model_id).alive():
            heartbeat = msgspec.msgpack.decode(beat, type=Heartbeat)
            if heartbeat.name == self.name:
                return heartbeat.state
        return None

    def terminate(self) -> None:
        """As the supervisor does: the worker alone hears it."""
        self.process.terminate()

    def freeze(self) -> None:
        """Have all that belongs to the worker stand still."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.killpg(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL to all that belongs to the worker, and gone."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        finally:
            self.process.wait()

    async def exit_code(self, timeout_s: float) -> int:
        return await asyncio.to_thread(self.process.wait, timeout_s)

    def last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-40:])


class Answer:
    """The answer that a gateway makes of a job's envelopes; a gap between them fails the test."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.attempt = 0
        self.attempts: list[int] = []
        self.next_seq = 0
        self.deltas: list[Delta] = []
        self.end: Done | Failed | None = None
        self.broken: AssertionError | None = None
        self.changed = asyncio.Event()

    def take(self, envelope: Envelope) -> None:
        try:
            self._take(envelope)
        except AssertionError as error:
            self.broken = error
        self.changed.set()

    def _take(self, envelope: Envelope) -> None:
        event = envelope.event
        if envelope.attempt < self.attempt:
            return
        if isinstance(event, Started):
            self.attempt = envelope.attempt
            self.attempts.append(envelope.attempt)
        elif envelope.attempt == self.attempt and envelope.seq >= self.next_seq:
            assert envelope.seq == self.next_seq, f"{envelope} came instead of {self.next_seq}"
            assert self.end is None, f"{envelope} came after {self.end}"
            self.next_seq += 1
            if isinstance(event, Delta):
                self.deltas.append(event)
            elif isinstance(event, Done | Failed):
                self.end = event

    async def until(self, condition: Callable[[], bool], timeout_s: float = ANSWER_S) -> None:
        """Return once the condition holds; fail the test after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if self.broken is not None:
                raise self.broken
            left = deadline - time.monotonic()
            assert left > 0, f"{self} did not get there in {timeout_s} s"
            self.changed.clear()
            try:
                await asyncio.wait_for(self.changed.wait(), left)
            except asyncio.TimeoutError:
                continue

    async def ended(self, timeout_s: float = ANSWER_S) -> Answer:
        await self.until(lambda: self.end is not None, timeout_s)
        return self

    async def speaks(self, deltas: int = 1) -> None:
        """Return once the answer has begun; it must not have ended."""
        await self.until(lambda: len(self.deltas) >= deltas or self.end is not None)
        assert self.end is None or len(self.deltas) >= deltas, str(self)

    @property
    def done(self) -> Done:
        assert isinstance(self.end, Done), str(self)
        return self.end

    @property
    def failed(self) -> Failed:
        assert isinstance(self.end, Failed), str(self)
        return self.end

    @property
    def prompt(self) -> list[PromptDelta]:
        """The report on the prompt."""
        return [delta for delta in self.deltas if isinstance(delta, PromptDelta)]

    @property
    def prompt_ids(self) -> list[int]:
        return array("I", b"".join(delta.prompt for delta in self.prompt)).tolist()

    @property
    def places(self) -> list[tuple[PromptToken, ...]]:
        return [place for delta in self.prompt for place in delta.places]

    @property
    def text(self) -> str:
        return self.choice(0)

    def choice(self, index: int) -> str:
        said = (delta for delta in self.deltas if kind_of(delta) is None)
        return "".join(delta.text for delta in said if delta.index == index)

    @property
    def reasoning(self) -> str:
        return "".join(delta.text for delta in self.deltas if kind_of(delta) == REASONING)

    @property
    def vectors(self) -> dict[int, bytes]:
        said = (delta for delta in self.deltas if isinstance(delta, VectorDelta))
        return {delta.number: delta.vector for delta in said}

    @property
    def whole_vectors(self) -> dict[int, bytes]:
        """The same, with the pieces of those that came in pieces put together."""
        whole: dict[int, bytes] = {}
        for delta in self.deltas:
            if isinstance(delta, VectorDelta):
                whole[delta.number] = whole.get(delta.number, b"") + delta.vector
        return whole

    @property
    def calls(self) -> dict[int, tuple[str, str, str]]:
        """By their numbers: the id, the tool's name, and the arguments."""
        calls: dict[int, tuple[str, str, str]] = {}
        for delta in self.deltas:
            if isinstance(delta, ToolCallDelta):
                call_id, name, arguments = calls.get(delta.call, ("", "", ""))
                told = (call_id + delta.id, name + delta.name, arguments + delta.text)
                calls[delta.call] = told
        return calls

    @property
    def token_ids(self) -> list[int]:
        ids = array("I")
        for delta in self.deltas:
            ids.frombytes(delta.tokens)
        return list(ids)

    @property
    def logprobs(self) -> list[TokenLogprob]:
        return [each for delta in self.deltas for each in delta.logprobs or ()]

    def __str__(self) -> str:
        return f"{self.job.id}: attempts {self.attempts}, {self.text!r}, then {self.end}"


class Client:
    """Asks a model, through Valkey and as a gateway would."""

    def __init__(self, redis_url: str, model_id: str, max_model_len: int) -> None:
        self.model_id = model_id
        self.max_model_len = max_model_len
        self.name = f"g-{uuid.uuid4().hex[:8]}"
        self.db = connect(redis_url)
        self.reader = connect_reader(redis_url)
        self.queue = JobQueue(self.db, model_id)
        self.replies = ReplyStream(self.db, self.name)
        self.answers: dict[str, Answer] = {}
        self._last = "0"
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        await serve(self.queue)
        await self._beat()
        self._last = await self.replies.open()
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._beat_on())]

    async def close(self) -> None:
        """No job is left waiting in the engine."""
        for answer in self.answers.values():
            if answer.end is None:
                await self.cancel(answer)
        self._closing = True
        reading, beating = self._tasks
        await cancel_and_wait([beating])
        await reading
        await self.reader.aclose()
        await self.db.aclose()

    async def put(
        self,
        question: str = "",
        *,
        prompt: str | None = None,
        messages: tuple[ChatMessage, ...] | None = None,
        prompt_ids: tuple[int, ...] | None = None,
        suffix: str | None = None,
        report: PromptReport | None = None,
        adapter: str | None = None,
        pooling: Pooling | None = None,
        tools: Tools | None = None,
        template: Template | None = None,
        counts_prompt: bool = False,
        trace: TraceContext | None = None,
        speech: Speech | None = None,
        **how: Any,
    ) -> Answer:
        """Put a job: a question or `messages` for the chat template, or a `prompt` taken as it is.
        Greedy unless `temperature` is given."""
        asked = messages or (ChatMessage("user", question),)
        is_chat = prompt is None and prompt_ids is None and pooling is None
        job = Job(
            f"j-{uuid.uuid4().hex[:12]}",
            self.model_id,
            Sampling(**{"temperature": 0.0, **how}),
            prompt=prompt,
            prompt_ids=prompt_ids,
            suffix=suffix,
            report=report,
            messages=asked if is_chat else None,
            pooling=pooling,
            template=template,
            tools=tools,
            adapter=adapter,
            counts_prompt=counts_prompt,
            trace=trace,
            speech=speech,
        )
        return await self.put_job(job)

    async def put_job(self, job: Job) -> Answer:
        """Put a job as it is."""
        answer = self.answers[job.id] = Answer(job)
        await put_one(
            self.queue,
            job,
            self.replies.key,
            self._last,
            max_waiting=1000,
            deadline_ms=120_000,
        )
        return answer

    async def ask(self, question: str = "", **how: Any) -> Answer:
        """Put a job and wait for the end of its answer."""
        return await (await self.put(question, **how)).ended()

    async def ask_for(self, job: Job) -> Answer:
        """Put a job under an id of its own, and wait for the end of its answer."""
        named = msgspec.structs.replace(job, id=f"j-{uuid.uuid4().hex[:12]}")
        return await (await self.put_job(named)).ended()

    async def cancel(self, answer: Answer) -> None:
        await Cancellations(self.db, self.model_id).announce(answer.job.id)

    async def state(self, answer: Answer) -> str:
        state = await self.db.hget(self.queue.job_key(answer.job.id), "state")
        return state.decode() if state else ""

    async def holder(self, answer: Answer) -> str:
        """The name of the worker that runs a job."""
        worker = await self.db.hget(self.queue.job_key(answer.job.id), "worker")
        return worker.decode() if worker else ""

    async def catch_up(self) -> None:
        """Return once everything has been read that is there now."""
        newest = await self.db.xrevrange(self.replies.key, count=1)
        while newest and self._last != newest[0][0].decode():  # noqa: ASYNC110 - polls a test
            await asyncio.sleep(0.01)

    async def forget_worker(self, name: str) -> None:
        """As the supervisor does when it has seen a worker end."""
        await Heartbeats(self.db, self.model_id).leave(name)

    async def _read(self) -> None:
        while not self._closing:
            for entry, envelopes in await read_frames(
                self.reader, self.replies.key, self._last, block_ms=100
            ):
                self._last = entry
                for envelope in map(Envelope._make, envelopes):
                    self.answers[envelope.job_id].take(envelope)

    async def _beat_on(self) -> None:
        while True:
            await asyncio.sleep(2)
            await self._beat()

    async def _beat(self) -> None:
        beat = GatewayBeat(self.name, "test", os.getpid())
        await Heartbeats(self.db, GATEWAYS).beat(self.name, beat, ready=True)


def run_apart(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine from a synchronous fixture, whatever loop the tests have."""
    outcome: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(asyncio.run(work))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return outcome[0]
