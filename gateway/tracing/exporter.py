"""The way of spans to a collector: gathered, sent in batches, and dropped if none takes them."""

from __future__ import annotations

import asyncio
import gzip
import logging
import ssl
import time
from collections import deque
from contextlib import suppress
from typing import Final

import httpx

from contract.figures import SpanFigures
from contract.process.tasks import cancel_and_wait
from gateway.tracing.otlp import SpanSource
from gateway.tracing.settings import TracingSettings
from gateway.tracing.span import Span

log = logging.getLogger(__name__)
#: Answers after which OTLP has a sender try again.
_TRY_AGAIN: Final = frozenset({429, 502, 503, 504})
#: A collector that is away is spoken of so often.
_SAY_EVERY_S: Final = 60.0
#: A process that stops does not wait longer for a collector.
_LAST_SPANS_S: Final = 2.0


class SpanExporter:
    """Sends spans, from the event loop. Whoever ends a span never waits for it."""

    def __init__(self, settings: TracingSettings, source: SpanSource) -> None:
        self._settings = settings
        self._source = source
        self._spans: deque[Span] = deque()
        self._many = asyncio.Event()
        self.figures = SpanFigures()
        #: Those of them that the log has told.
        self._told = 0
        self._say_at = 0.0
        context = _trusting(settings.ca_file)
        self._client = httpx.AsyncClient(verify=context, timeout=settings.timeout_s)
        self._running: asyncio.Task[None] | None = None

    def take(self, span: Span) -> None:
        """Take a span that has ended. Beyond a bound it is dropped."""
        if len(self._spans) >= self._settings.most_waiting:
            self.figures.full += 1
            return
        self._spans.append(span)
        if len(self._spans) == self._settings.at_once:
            self._many.set()

    def start(self) -> None:
        self._running = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Send the rest, if a collector takes it soon."""
        if self._running is not None:
            await cancel_and_wait([self._running])
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_SPANS_S):
                while self._spans and await self._send_some():
                    pass
        await self._client.aclose()

    async def _run(self) -> None:
        while True:
            self._many.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.every_s):
                    await self._many.wait()
            while self._spans and await self._send_some():
                pass

    async def _send_some(self) -> bool:
        """Send a batch. False if it is to be sent again later."""
        batch = [self._spans[n] for n in range(min(len(self._spans), self._settings.at_once))]
        problem, is_lost = await self._send(batch)
        if problem and not is_lost:
            self._complain(problem)
            return False
        for _ in batch:
            self._spans.popleft()
        if problem:
            self.figures.refused += len(batch)
            self._complain(problem)
        else:
            self.figures.sent += len(batch)
        return True

    async def _send(self, batch: list[Span]) -> tuple[str, bool]:
        """Return the problem, empty if there was none; and whether sending again is of no use."""
        body = self._source.request(batch)
        headers = {"content-type": "application/x-protobuf", **self._settings.headers}
        if self._settings.compresses:
            body, headers["content-encoding"] = gzip.compress(body, 1), "gzip"
        try:
            answer = await self._client.post(self._settings.url, content=body, headers=headers)
        except httpx.HTTPError as error:
            return f"{type(error).__name__}: {error}", False
        if answer.is_success:
            return "", False
        return f"HTTP {answer.status_code}", answer.status_code not in _TRY_AGAIN

    def _complain(self, problem: str) -> None:
        now = time.monotonic()
        if now >= self._say_at:
            self._say_at = now + _SAY_EVERY_S
            dropped = self.figures.full + self.figures.refused
            waiting, news, self._told = len(self._spans), dropped - self._told, dropped
            log.warning(
                "the collector at %s does not take spans (%s); %d wait, %d were dropped",
                self._settings.url,
                problem,
                waiting,
                news,
            )


def _trusting(ca_file: str | None) -> ssl.SSLContext:
    """Raises `ValueError`."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise ValueError(f"OTEL_EXPORTER_OTLP_CERTIFICATE is {ca_file}: {error}") from None
