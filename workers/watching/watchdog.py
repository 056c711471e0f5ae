"""Whether the engine gets on: a watchdog over the jobs that are in it, and a canary, a job of one
token, before it is called ready, where it is in doubt, or where it has no job. Before it is called
ready it is asked a chat, too: parsers that read the answer change the request, and an engine may
not survive that. An engine that says nothing for too long is taken for hung: the worker leaves, and
its jobs go on elsewhere.

Any word about any job counts. A single job that gets nowhere while a canary does (a constraint
that takes long to compile) is not for the worker to judge; its client's timeouts end it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Iterable
from typing import Any, Final

from contract.asked import Tools
from contract.config import WatchdogConfig
from contract.messages import ChatMessage, Job, Sampling
from contract.process.tasks import cancel_and_wait
from workers.answers.answer import Answer
from workers.engine import CannotServe, Engine, JobRejected
from workers.engine_state import EngineHung, EngineLoad
from workers.outbox import Outbox
from workers.watching.room import RoomCheck

log = logging.getLogger(__name__)
_LOOK_EVERY_S: Final = 1.0
#: An engine that has said nothing yet may have to compile something for its first answer.
_PATIENCE_AT_FIRST: Final = 4.0
#: A job that was cancelled after so long without a word may have been let down by the engine.
_SUSPICIOUS_S: Final = 5.0
#: Before the engine is called ready, it is looked at more often: the start waits.
_GLANCE_EVERY_S: Final = 0.02
#: An engine that has nothing but a canary, and does not even begin it, never will.
_NOT_BEGUN_S: Final = 10.0
#: Fewer than any text has tokens, while the engine has not counted them.
_CHARACTERS_PER_TOKEN: Final = 3
_TOOL: Final = '[{"type":"function","function":{"name":"wait","parameters":{"type":"object"}}}]'
#: The forms of a canary; the next one is asked where the model does not take one.
_PLAIN: Final[tuple[dict[str, Any], ...]] = ({"prompt": "1"},)
_MESSAGES: Final = (ChatMessage("user", "1"),)
_CHAT: Final = ({"messages": _MESSAGES, "tools": Tools(_TOOL)}, {"messages": _MESSAGES})


class Watchdog:
    """Looks every second. Time is counted in looks, so that a process that was stopped as a whole
    does not blame its engine."""

    def __init__(self, limits: WatchdogConfig, engine: Engine, outbox: Outbox, model: str) -> None:
        self._limits = limits
        self._engine = engine
        self._outbox = outbox
        self._model = model
        self._numbers = itertools.count()
        #: Whether canaries may be sent: not while the engine sleeps, or the worker leaves.
        self._may_ask = True
        self._canary: asyncio.Task[None] | None = None
        self._canary_id = ""
        self._heard = 0
        #: Of what was heard, the answer to the canary before it was ready.
        self._heard_before = 0
        self._quiet_s = self._idle_s = 0.0
        self._is_suspicious = False
        self._room = RoomCheck(outbox)

    async def first_answer(self) -> None:
        """Return once the engine has answered a canary, and a chat: then it is ready.

        Raises `CannotServe` if it does not begin the first for want of memory, and `EngineDied`.
        """
        for forms in (_PLAIN, _CHAT):
            self._send_canary(forms)
            try:
                await self._wait_for_answer(is_chat=forms is _CHAT)
            finally:
                await self._end_canary()
        self._heard = self._heard_before = self._outbox.heard

    async def _wait_for_answer(self, *, is_chat: bool) -> None:
        before = self._outbox.heard
        waited_s = queued_s = 0.0
        while self._outbox.heard == before:
            await asyncio.sleep(_GLANCE_EVERY_S)
            waited_s += _GLANCE_EVERY_S
            # A chat may have to wait for a grammar.
            waits = self._outbox.load.waiting and not is_chat
            queued_s = queued_s + _GLANCE_EVERY_S if waits else 0.0
            self._judge_start(waited_s, queued_s, " to a chat" if is_chat else "")
            if self._outbox.died.done():
                await self._outbox.died

    def _judge_start(self, waited_s: float, queued_s: float, to: str) -> None:
        if queued_s >= _NOT_BEGUN_S:
            raise CannotServe(
                f"the engine has loaded the model, but has not begun a request of one token in "
                f"{_NOT_BEGUN_S:.0f} s, with nothing else in it: {_why(self._outbox.load)}"
            )
        allowed_s = _PATIENCE_AT_FIRST * self._limits.first_token_s
        if waited_s >= allowed_s and not self._outbox.died.done():
            said = f"answered nothing{to} for {waited_s:.0f} s"
            self._outbox.engine_died(EngineHung(f"the engine has loaded the model, but {said}"))

    async def run(self) -> None:
        """Until the engine stands still, or cancelled."""
        try:
            while True:
                await asyncio.sleep(_LOOK_EVERY_S)
                await self._look()
        finally:
            await self._end_canary()

    async def rest(self) -> None:
        """No canary is in the engine any more, nor will be until `resume`."""
        self._may_ask = False
        await self._end_canary()

    def resume(self) -> None:
        """The engine is awake."""
        self._may_ask = True
        self._quiet_s = self._idle_s = 0.0

    async def _look(self) -> None:
        self._room.look(_LOOK_EVERY_S)
        if self._outbox.heard != self._heard:
            self._heard = self._outbox.heard
            self._quiet_s = self._idle_s = 0.0
            self._is_suspicious = False
            await self._end_canary()
        elif self._is_busy:
            self._quiet_s += _LOOK_EVERY_S
            self._doubt()
        else:
            self._is_suspicious |= self._quiet_s >= _SUSPICIOUS_S
            self._quiet_s = 0.0
            self._idle_s += _LOOK_EVERY_S
            if self._is_canary_due():
                self._send_canary()

    @property
    def _is_busy(self) -> bool:
        return len(self._outbox) > 0 or self._canary is not None

    def _doubt(self) -> None:
        """Ask when half of the time is over, and give up when all of it is."""
        allowed_s = self._allowed_s(self._outbox.answers())
        if self._quiet_s < allowed_s:
            if self._may_ask and self._canary is None and self._quiet_s >= allowed_s / 2:
                self._send_canary()
            return
        jobs = f"{len(self._outbox)} jobs" if len(self._outbox) else "only a canary"
        self._outbox.engine_died(
            EngineHung(f"the engine has stood still for {self._quiet_s:.0f} s, with {jobs} in it")
        )

    def _allowed_s(self, answers: Iterable[Answer]) -> float:
        """Return how long the engine may say nothing, with these answers under way."""
        waits = [self._wait_s(answer) for answer in answers]
        return max(waits, default=self._limits.first_token_s)

    def _wait_s(self, answer: Answer) -> float:
        if answer.has_spoken:
            return self._limits.token_s
        patience = 1.0 if self._heard > self._heard_before else _PATIENCE_AT_FIRST
        reading_s = _prompt_tokens(answer) / self._limits.prompt_tokens_per_s
        return patience * self._limits.first_token_s + reading_s

    def _is_canary_due(self) -> bool:
        every_s = self._limits.canary_every_s
        return self._may_ask and every_s > 0 and (self._is_suspicious or self._idle_s >= every_s)

    def _send_canary(self, forms: tuple[dict[str, Any], ...] = _PLAIN) -> None:
        self._canary_id = f"canary-{next(self._numbers)}"
        self._canary = asyncio.create_task(self._ask(self._canary_id, forms))

    async def _ask(self, job_id: str, forms: tuple[dict[str, Any], ...]) -> None:
        """Whatever the engine says to it, also that it likes no form, shows that it lives."""
        sampling = Sampling(max_tokens=1, temperature=0.0)
        for form in forms:
            try:
                await self._engine.submit(Job(job_id, self._model, sampling, **form))
                return
            except JobRejected:
                continue
            except Exception:
                log.exception("the canary could not be submitted")
        self._outbox.hear()

    async def _end_canary(self) -> None:
        if self._canary is None:
            return
        canary, self._canary = self._canary, None
        await cancel_and_wait([canary])
        await self._engine.cancel(self._canary_id)


def _why(load: EngineLoad) -> str:
    """Return why the engine does not begin the one request that waits in it."""
    if load.deferred:
        return (
            "it waits for something else than room, such as keys and values from elsewhere "
            "(`kv_transfer_config`); the engine's log may say more"
        )
    return (
        "its cache has no room for a sequence (and its states, if layers are recurrent). Give the "
        "model more memory, or lower `max_model_len` or `max_batch_size`"
    )


def _prompt_tokens(answer: Answer) -> int:
    """Return how much the engine reads before its first token; rather too much, where it has not
    said."""
    job = answer.attempt.job
    if answer.prompt_tokens:
        return answer.prompt_tokens + len(job.emitted)
    texts = [job.prompt or "", *(message.content for message in job.messages or ())]
    return sum(map(len, texts)) // _CHARACTERS_PER_TOKEN + len(job.emitted)
