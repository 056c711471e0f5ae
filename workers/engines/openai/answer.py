"""One answer of a server of the OpenAI API, as far as it has come."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

from contract.messages import FinishReason, Job
from workers.engines.openai.errors import StreamBroken, UpstreamFailed
from workers.engines.openai.halves import Halves
from workers.engines.openai.server_sent_events import Event
from workers.engines.openai.stream import UpstreamChoice, UpstreamUsage, read_chunk
from workers.engines.openai.tools import UpstreamCalls


class UpstreamStream:
    """The answer to one job, as far as it has come."""

    def __init__(self, job: Job, body: bytes, overdue_at: float) -> None:
        self.job = job
        self.body = body
        self.overdue_at = overdue_at
        self.arrived = False
        self.spoke = False
        self.pieces = 0
        self.begun: set[int] = set()
        self.reasons: dict[int, FinishReason] = {}
        self.stop_strings: dict[int, str] = {}
        self.usage = UpstreamUsage()
        self.halves = Halves()
        self.calls: defaultdict[int, UpstreamCalls] = defaultdict(UpstreamCalls)
        self.is_finished = False
        self.task: asyncio.Task[None] | None = None

    @property
    def asked(self) -> dict[str, Any]:
        """Return the request as httpx takes it; the server may go on with the job's trace."""
        trace = self.job.trace
        return {"content": self.body, "headers": {} if trace is None else trace.headers()}

    @property
    def ended(self) -> bool:
        """Every choice has said why it ended."""
        return len(self.reasons) >= self.job.sampling.n

    def place(self, choice: UpstreamChoice) -> int:
        """Return which of the choices it is. Raises `UpstreamFailed`."""
        index = choice.place(self.job.sampling.n)
        self.begun.add(index)
        return index

    def unfinished(self, is_whole: bool) -> UpstreamFailed:
        """Return what it means that the stream has ended before all choices have; `is_whole` if the
        server says that this was all. One that never began some of them ignores `n`, and would do
        the same again."""
        asked, given = self.job.sampling.n, len(self.begun)
        if is_whole and 0 < given < asked and given == len(self.reasons):
            said = (
                f"the server behind this model gave {given} of {asked} choices; ask with less `n`"
            )
            return UpstreamFailed(said)
        return StreamBroken("it ended without a reason")

    def end(self, index: int, reason: FinishReason, stop_string: str) -> None:
        """Note why a choice ended. The first reason counts: an end cannot be taken back."""
        if index in self.reasons:
            return
        if reason == "stop" and index in self.calls and not self._names_its_tool:
            # Some servers say so though a tool was called; agents go by the reason.
            reason = "tool_calls"
        self.reasons[index], self.stop_strings[index] = reason, stop_string

    @property
    def _names_its_tool(self) -> bool:
        """As OpenAI has it: a call of the one tool that the request names ends as text does."""
        return self.job.tools is not None and self.job.tools.choice == "named"


def not_streamed(body: bytes) -> UpstreamFailed:
    """Return what it means that a server answers with one document, and calls that a success."""
    try:
        read_chunk(Event(body))
    except UpstreamFailed as error:
        if error.retryable:
            return error
    return UpstreamFailed(
        "the server behind this model does not stream", note=f"a document of {len(body)} bytes"
    )
