"""Any server that speaks the OpenAI API (vLLM, trtllm-serve, NIM, SGLang, llama.cpp, ...), behind
the same queue, keys, limits and streams as an engine of our own.

Token ids stay unknown here, so an answer cannot go on from its tokens: one that loses its worker
is asked for again, and what the client has already is not sent twice.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

import httpx
import msgspec

from contract.config import WorkerSpec
from contract.messages import ErrorCode, Job, TokenLogprob
from workers.answers.transcript import REASONING, Kind
from workers.engine import EngineReport, JobRejected
from workers.engines.llama_cpp_wire import LLAMA_CPP
from workers.engines.openai.answer import UpstreamStream, not_streamed
from workers.engines.openai.errors import StreamBroken, UpstreamFailed, refusal
from workers.engines.openai.pooling import BESIDE_API, read_pooled
from workers.engines.openai.server_sent_events import Event, EventReader
from workers.engines.openai.stream import UpstreamChoice, read_chunk
from workers.engines.openai.upstream import Upstream, UpstreamSettings, read_start
from workers.engines.openai.wire import media_taken, request_body, request_path
from workers.engines.prefix_cache import cache_salt
from workers.engines.shared.adapters import no_adapter
from workers.engines.shared.deltas import pooled_deltas
from workers.outbox import Outbox

log = logging.getLogger(__name__)
_SLOTS: Final = 256
_RETRY_S: Final = 0.5
_LOOK_FOR_OVERDUE_EVERY_S: Final = 0.25
#: Of an answer that is an error; none has a reason to be longer.
_LARGEST_REFUSAL: Final = 65_536
#: Of an answer that is vectors, in JSON.
_LARGEST_VECTORS: Final = 256 * 1024 * 1024
#: The most bytes after a stream's end with which its connection is used again.
_LARGEST_EPILOGUE: Final = 4_096
#: Servers that cannot stream, and proxies that answer for them.
_NO_STREAM: Final = ("application/json", "text/html")


class OpenAiEngine:
    """A client of the server behind the model."""

    continues = False

    def __init__(self, spec: WorkerSpec) -> None:
        model = spec.model
        if model.adapter_path:
            raise ValueError(
                "`adapter_path`: the openai engine loads no adapters; name those that the server "
                "has in `adapters`"
            )
        self._config = model
        self._settings = UpstreamSettings.of(model)
        self._upstream = Upstream(spec.model_id, model, self._settings)
        self._streams: dict[str, UpstreamStream] = {}
        self._watches: list[asyncio.Task[None]] = []

    @property
    def obstacle(self) -> str:
        return self._upstream.obstacle

    async def start(self, outbox: Outbox) -> EngineReport:
        # It has a line for every request.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        self._outbox = outbox
        self._server = server = await self._upstream.open()
        bounds = (self._config.context_len, server.max_model_len)
        self._context_len = min((bound for bound in bounds if bound), default=None)
        self._watches += map(asyncio.create_task, (self._watch_server(), self._watch_streams()))
        version = f"{server.kind or 'openai'} {server.version}".strip()
        slots = self._config.max_batch_size or _SLOTS
        limits, is_local = (slots, self._context_len or 0), self._config.command is not None
        return EngineReport(version, *limits, is_local=is_local, takes=media_taken(server))

    async def submit(self, job: Job) -> None:
        overdue_at = time.monotonic() + self._settings.first_token_timeout_s
        stream = UpstreamStream(job, self._request(job), overdue_at)
        self._streams[job.id] = stream
        stream.task = asyncio.create_task(self._run(stream))
        stream.task.add_done_callback(self._ran)

    async def cancel(self, job_id: str) -> None:
        stream = self._streams.pop(job_id, None)
        if stream is not None and stream.task is not None:
            stream.task.cancel()

    async def stop(self) -> None:
        running = [stream.task for stream in self._streams.values() if stream.task is not None]
        for task in (*self._watches, *running):
            task.cancel()
        await asyncio.gather(*self._watches, *running, return_exceptions=True)
        await self._upstream.close()

    def _request(self, job: Job) -> bytes:
        salt = cache_salt(job, self._config)
        body = request_body(job, self._server, self._answer_limit(job), salt)
        if "max_tokens" in body:
            body[self._settings.max_tokens_name] = body.pop("max_tokens")
        if self._settings.include_usage and job.pooling is None:
            body["stream_options"] = {"include_usage": True}
        body["model"] = self._model_name(job)
        return msgspec.json.encode(body | self._settings.extra_body)

    def _answer_limit(self, job: Job) -> int | None:
        """The most tokens to ask for; no more than fit, where the context is known: servers
        refuse what is beyond it, and give a plain prompt only 16 tokens if not told."""
        asked = (job.sampling.max_tokens, self._config.max_output_len)
        if job.messages is not None and not any(asked):
            return None
        return min((bound for bound in (*asked, self._context_len) if bound), default=None)

    def _model_name(self, job: Job) -> str:
        adapters = self._config.adapters
        if job.adapter is None:
            return self._upstream.model
        if not adapters:
            return job.adapter
        if job.adapter not in adapters:
            raise no_adapter(job.adapter, adapters)
        return adapters[job.adapter]

    async def _run(self, stream: UpstreamStream) -> None:
        job_id = stream.job.id
        try:
            await self._ask_until_answered(stream)
        except UpstreamFailed as error:
            log.warning("job %s: %s (%s)", job_id, error.code.value, error.note or error)
            if isinstance(error, StreamBroken) and await self._upstream.is_gone():
                # As with any engine that dies: the answer stays open for the next worker.
                self._outbox.engine_died(error)
                return
            self._outbox.failed(job_id, error.code, str(error), retryable=error.retryable)
        except JobRejected as error:
            self._outbox.failed(job_id, error.code, str(error))
        # An unforeseen error ends this job, not the worker with all its jobs.
        except Exception:
            log.exception("job %s could not be answered", job_id)
            message = "the answer of the server behind this model could not be read"
            self._outbox.failed(job_id, ErrorCode.UPSTREAM_FAILED, message)
        finally:
            if self._streams.get(job_id) is stream:
                del self._streams[job_id]

    async def _ask_until_answered(self, stream: UpstreamStream) -> None:
        """Unless the server is lost for good, or the first token overdue, before."""
        while True:
            if await self._ask(stream):
                return
            await asyncio.sleep(_RETRY_S)

    async def _ask(self, stream: UpstreamStream) -> bool:
        """Ask once. False if the request did not arrive, or (once) may not have arrived.
        Raises `UpstreamFailed`."""
        path = request_path(stream.job, self._server)
        url = f"{self._upstream.root if path in BESIDE_API else self._upstream.url}{path}"
        try:
            async with self._upstream.client.stream("POST", url, **stream.asked) as response:
                await self._relay(stream, response)
            return True
        except (httpx.ConnectError, httpx.ConnectTimeout):
            return False
        except httpx.RequestError as error:
            if stream.arrived:
                raise StreamBroken(type(error).__name__) from error
            stream.arrived = True
            return False

    async def _relay(self, stream: UpstreamStream, response: httpx.Response) -> None:
        stream.arrived = True
        self._upstream.heard()
        if response.status_code != 200:
            adapter = stream.job.adapter is not None
            body = await read_start(response, _LARGEST_REFUSAL)
            raise refusal(response.status_code, body, adapter=adapter)
        if (asked := stream.job.pooling) is not None:
            body = await read_start(response, _LARGEST_VECTORS)
            pooled, prompt_tokens = await asyncio.to_thread(read_pooled, body, asked, self._server)
            self._outbox.say_first(stream.job.id, pooled_deltas(pooled))
            self._outbox.done(stream.job.id, ("stop",), prompt_tokens)
            return
        if response.headers.get("content-type", "").partition(";")[0].strip() in _NO_STREAM:
            raise not_streamed(await read_start(response, _LARGEST_REFUSAL))
        reader = EventReader()
        epilogue = 0
        async for data in response.aiter_bytes():
            self._upstream.heard()
            self._outbox.hear()
            if stream.is_finished:
                epilogue += len(data)
                if epilogue > _LARGEST_EPILOGUE:
                    return
            self._take(stream, reader.feed(data))
        self._take(stream, reader.end())
        self._finish(stream)

    def _take(self, stream: UpstreamStream, events: list[Event]) -> None:
        for event in events:
            if stream.is_finished:
                return
            if event.data.strip() == b"[DONE]":
                self._finish(stream, is_whole=True)
                return
            chunk = read_chunk(event)
            if (counts := chunk.counts()) is not None:
                # The server of llama.cpp counts each choice for itself.
                counts_all = self._server.kind != LLAMA_CPP
                stream.usage = counts if counts_all else stream.usage.and_choice(counts)
            for choice in chunk.choices or ():
                self._push(stream, choice)

    def _push(self, stream: UpstreamStream, choice: UpstreamChoice) -> None:
        index, reason = stream.place(choice), choice.reason()
        said = self._push_rest(stream, index, choice)
        text = stream.halves.join(index, choice.new_text)
        logprobs = choice.token_logprobs(stream.job.sampling.logprobs)
        if reason is not None:
            stream.end(index, reason, choice.stop_string)
            text += stream.halves.end(index)
        if text or logprobs:
            self._say(stream, index, text, None, logprobs)
        if text or logprobs or said:
            stream.spoke = True
            stream.overdue_at = time.monotonic() + self._settings.token_gap_timeout_s

    def _push_rest(self, stream: UpstreamStream, index: int, choice: UpstreamChoice) -> bool:
        """Push reasoning and calls. Returns whether there were any."""
        thought, calls = choice.new_reasoning, choice.new_calls
        if thought:
            text = stream.halves.join((index, REASONING), thought)
            self._say(stream, index, text, REASONING)
        for call in calls:
            place = stream.calls[index].place(call)
            text = stream.halves.join((index, place.call), call.arguments)
            self._say(stream, index, text, place)
        return bool(thought or calls)

    def _say(
        self,
        stream: UpstreamStream,
        index: int,
        text: str,
        kind: Kind,
        logprobs: tuple[TokenLogprob, ...] | None = None,
    ) -> None:
        self._outbox.delta(stream.job.id, text, (), index, logprobs, kind)
        stream.pieces += 1
        self._outbox.count_piece(stream.job.id)

    def _finish(self, stream: UpstreamStream, *, is_whole: bool = False) -> None:
        """The stream has ended. The second time nothing happens. Raises `UpstreamFailed`."""
        if not stream.ended:
            raise stream.unfinished(is_whole)
        stream.is_finished = True
        usage, ended = stream.usage, sorted(stream.reasons)
        self._outbox.done(
            stream.job.id,
            tuple(stream.reasons[index] for index in ended),
            usage.prompt_tokens or 0,
            usage.cached_tokens or 0,
            completion_tokens=stream.pieces
            if usage.completion_tokens is None
            else usage.completion_tokens,
            reasoning_tokens=usage.reasoning_tokens or 0,
            stop_strings=tuple(stream.stop_strings[index] for index in ended),
        )

    def _ran(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._outbox.engine_died(error)

    async def _watch_server(self) -> None:
        """A server that is away for good is no engine: the worker leaves its jobs to others, and
        the next one waits until the server is back."""
        self._outbox.engine_died(await self._upstream.lost())

    async def _watch_streams(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_FOR_OVERDUE_EVERY_S)
            now = time.monotonic()
            overdue = [each for each in self._streams.values() if now > each.overdue_at]
            for stream in overdue:
                self._give_up(stream)
                await self.cancel(stream.job.id)

    def _give_up(self, stream: UpstreamStream) -> None:
        if stream.spoke:
            code, timeout_s = ErrorCode.TOKEN_GAP_TIMEOUT, self._settings.token_gap_timeout_s
        else:
            code, timeout_s = ErrorCode.FIRST_TOKEN_TIMEOUT, self._settings.first_token_timeout_s
        message = f"the server behind this model said nothing for {timeout_s:g} s"
        self._outbox.failed(stream.job.id, code, message, retryable=True)
