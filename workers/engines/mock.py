"""A scripted engine without a model: for tests, benchmarks, and a first look at ew.

It counts: token k of an answer is the text `k ` with id k. All jobs advance together, once per
step, as in a real engine. `engine_args` set the script for every job:

    tokens_per_s (200)       steps per second
    first_token_delay_s (0)  before the first token
    load_s (0)               the start takes this long
    allocate_mib (0)         GPU memory that it pretends to take, where PYNVML_SCENE names the
                             script of a driver that is not real
    asleep_mib (0)           what it keeps of it while it sleeps
    wake_s (0)               waking takes this long
    fail_at, hang_at, crash_at   at this token the job fails, it hangs, the process dies
    freeze_at                at this token of a job the whole engine hangs
    default_tokens (64)      length of an answer when the request gives none
    think (0)                so many tokens are reasoning, before the others
    media (0)                1 takes images, sound and video; each of their bytes is a token
    calls (0)                then it calls so many of its tools, and says nothing else; at least
                             one where the request demands it

A prompt (its last message) may hold `[[fail_at=3]]` and the like, for that job alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import time
from dataclasses import dataclass, field
from typing import Any, Final, get_args

from contract.asked import MediaKind
from contract.config import WorkerSpec
from contract.media import media_of
from contract.messages import ErrorCode, FinishReason, Job
from workers.answers.continuation import forces_calls
from workers.answers.transcript import REASONING, Kind, ToolPiece, Transcript
from workers.engine import EngineReport, JobRejected
from workers.engine_state import EngineLoad
from workers.engines.arguments import known
from workers.engines.mock_pooling import pool
from workers.engines.scripted_memory import allocate
from workers.engines.shared.deltas import pooled_deltas
from workers.outbox import Outbox

VERSION: Final = "1"
_DIRECTIVE: Final = re.compile(r"\[\[(\w+)=(\d+(?:\.\d+)?)\]\]")
_MAX_MODEL_LEN: Final = 1_000_000
#: The tool's name, the beginning of its arguments, and their end.
_TOKENS_PER_CALL: Final = 3
_MOST_BEHIND_S: Final = 0.1


@dataclass(frozen=True)
class MockScript:
    """The course of a job: events by token number (from 0) and seconds."""

    tokens_per_s: float = 200.0
    first_token_delay_s: float = 0.0
    load_s: float = 0.0
    allocate_mib: float = 0.0
    asleep_mib: float = 0.0
    wake_s: float = 0.0
    fail_at: float = -1
    hang_at: float = -1
    freeze_at: float = -1
    crash_at: float = -1
    default_tokens: float = 64
    think: float = 0
    media: float = 0
    calls: float = 0


@dataclass
class _Running:
    job: Job
    script: MockScript
    prompt_tokens: int
    next_token: int
    last_token: int
    not_before: float
    calls: int = 0
    choices: range = field(default=range(1))

    def piece(self, token: int) -> tuple[Kind, str]:
        """Return the text of a token."""
        think = int(self.script.think)
        if token < think:
            return REASONING, f"{token} "
        if not self.calls or self.job.tools is None:
            return None, f"{token} "
        call, part = divmod(token - think, _TOKENS_PER_CALL)
        if part:
            return ToolPiece(call), ("", '{"call": ', f"{call}}}")[part]
        tools = json.loads(self.job.tools.definitions)
        names = [self.job.tools.name or tool["function"]["name"] for tool in tools]
        return ToolPiece(call, f"call_{self.job.id}_{call}", names[call % len(names)]), ""

    def resume(self) -> tuple[str, Transcript]:
        """Go on after the tokens that earlier attempts said. Returns what of their transcript is
        not said by those, and the beginning that it goes on after."""
        after, said = Transcript(), ""
        for token in self.job.emitted:
            said += after.piece(*self.piece(token))
            self.next_token += 1
        return self.job.sent[len(said) :], after

    @property
    def reason(self) -> FinishReason:
        if not self.calls or self.job.tools is None:
            return "length"
        return "tool_calls" if not self.job.tools.name else "stop"


class MockEngine:
    """Counts, on a clock."""

    continues = True

    def __init__(self, spec: WorkerSpec) -> None:
        self._script = MockScript(**known(spec.model.engine_args, MockScript, "mock"))
        self._slots = spec.model.max_batch_size or 256
        self._max_model_len = spec.model.max_model_len or _MAX_MODEL_LEN
        self._running: dict[str, _Running] = {}
        self._some = asyncio.Event()
        self._stepping: asyncio.Task[None] | None = None
        self._is_frozen = False

    async def start(self, outbox: Outbox) -> EngineReport:
        allocate(int(self._script.allocate_mib))
        await asyncio.sleep(self._script.load_s)
        self._outbox = outbox
        self._stepping = asyncio.create_task(self._step_forever())
        takes = get_args(MediaKind) if self._script.media else ()
        return EngineReport(VERSION, self._slots, self._max_model_len, takes=takes)

    async def submit(self, job: Job) -> None:
        if job.pooling is not None:
            pooled, tokens = pool(job, job.pooling)
            self._outbox.say_first(job.id, pooled_deltas(pooled))
            self._outbox.done(job.id, ("stop",), tokens)
            return
        text = job.prompt or (job.messages[-1].content if job.messages else "")
        if job.report is not None or job.suffix is not None:
            message = "mock has no tokenizer: it tells nothing of a prompt, and fills no gap"
            raise JobRejected(ErrorCode.INVALID_REQUEST, message)
        script = self._scripted(text)
        prompt_tokens = len(job.prompt_ids or text.split())
        prompt_tokens += sum(len(each.data) for each in media_of(job))
        room = self._max_model_len - prompt_tokens
        if room <= 0:
            message = f"the prompt has {prompt_tokens} tokens; the limit is {self._max_model_len}"
            raise JobRejected(ErrorCode.PROMPT_TOO_LONG, message)
        wanted = job.sampling.max_tokens or int(script.default_tokens)
        calls = max(int(script.calls), forces_calls(job)) if job.tools is not None else 0
        if calls:
            wanted = min(wanted, int(script.think) + _TOKENS_PER_CALL * calls)
        running = _Running(
            job,
            script,
            prompt_tokens,
            next_token=0,
            last_token=min(wanted, room) - 1,
            not_before=time.monotonic() + script.first_token_delay_s,
            calls=calls,
            choices=range(job.sampling.n),
        )
        if job.emitted:
            again, after = running.resume()
            self._outbox.suppress(job.id, again, running.next_token, after)
        if running.next_token > running.last_token:
            self._outbox.done(job.id, (running.reason,), prompt_tokens)
            return
        self._outbox.expect(job.id, prompt_tokens)
        self._running[job.id] = running
        self._some.set()

    async def cancel(self, job_id: str) -> None:
        self._running.pop(job_id, None)

    async def sleep(self) -> None:
        allocate(int(self._script.asleep_mib - self._script.allocate_mib))

    async def wake(self) -> None:
        allocate(int(self._script.allocate_mib - self._script.asleep_mib))
        await asyncio.sleep(self._script.wake_s)

    async def stop(self) -> None:
        if self._stepping is not None:
            self._stepping.cancel()

    def _scripted(self, text: str) -> MockScript:
        given: dict[str, Any] = {name: float(value) for name, value in _DIRECTIVE.findall(text)}
        try:
            return MockScript(**{**self._script.__dict__, **given})
        except TypeError as error:
            raise JobRejected(ErrorCode.INVALID_REQUEST, f"mock: {error}") from None

    async def _step_forever(self) -> None:
        period_s = 1 / self._script.tokens_per_s
        due = time.monotonic()
        while True:
            if not self._running:
                self._outbox.report_load(EngineLoad(kv_cache_usage=0.0))
                self._some.clear()
                await self._some.wait()
                due = time.monotonic()
            # After a standstill it goes on where it was, and does not catch up.
            due = max(due, time.monotonic() - _MOST_BEHIND_S) + period_s
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            now = time.monotonic()
            for running in list(self._running.values()):
                if now >= running.not_before and not self._is_frozen:
                    self._advance(running)
            fill = min(1.0, len(self._running) / self._slots)
            self._outbox.report_load(EngineLoad(kv_cache_usage=fill))

    def _advance(self, running: _Running) -> None:
        job_id, token, script = running.job.id, running.next_token, running.script
        if token == script.crash_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self._is_frozen |= token == script.freeze_at
        if self._is_frozen or token == script.hang_at:
            return
        if token == script.fail_at:
            del self._running[job_id]
            self._outbox.failed(job_id, ErrorCode.ENGINE_FAILED, f"scripted at token {token}")
            return
        kind, text = running.piece(token)
        for index in running.choices:
            self._outbox.delta(job_id, text, [token], index, kind=kind)
        running.next_token += 1
        if token >= running.last_token:
            del self._running[job_id]
            reasons = tuple(running.reason for _ in running.choices)
            self._outbox.done(job_id, reasons, running.prompt_tokens)
