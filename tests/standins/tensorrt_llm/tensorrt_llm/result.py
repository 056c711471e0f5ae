"""Results as the LLM API gives them: one object per request, which grows, and is yielded anew
for each response that the executor sends."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tokenizers.decoders import DecodeStream

from .executor import RequestError
from .sampling_params import SamplingParams


class Logprob(NamedTuple):
    logprob: float
    rank: int | None = None


@dataclass
class Response:
    """A response of the executor to a request. `beams` has all tokens of each beam."""

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[dict[int, Logprob]] = field(default_factory=list)
    beams: list[list[int]] | None = None
    finish: str | None = None
    error: str | BaseException | None = None


@dataclass
class CompletionOutput:
    index: int
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[dict[int, Logprob]] = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    last_text_len: int = 0
    last_token_ids_len: int = 0
    stream: Any = None

    @property
    def text_diff(self) -> str:
        return self.text[self.last_text_len :]

    @property
    def token_ids_diff(self) -> list[int]:
        return self.token_ids[self.last_token_ids_len :]


class ResponseQueue:
    """Filled from the executor's thread; awaited if a loop ran when the request was made."""

    def __init__(self) -> None:
        self._sync: queue.SimpleQueue[Response] = queue.SimpleQueue()
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None
        self._async: asyncio.Queue[Response] = asyncio.Queue()

    def put(self, response: Response) -> None:
        if self._loop is None:
            self._sync.put(response)
        else:
            self._loop.call_soon_threadsafe(self._async.put_nowait, response)

    def get(self) -> Response:
        return self._sync.get()

    async def aget(self) -> Response:
        assert self._loop is not None, (
            "The asyncio event loop was not present during initialization, so async operations "
            "are not available."
        )
        return await self._async.get()


class RequestOutput:
    """The real one also forbids to be made by hand."""

    def __init__(
        self,
        request_id: int,
        prompt_token_ids: list[int],
        params: SamplingParams,
        tokenizer: Any,
        executor: Any,
        streaming: bool,
        handle_error: Callable[[BaseException], None],
    ) -> None:
        self.request_id = request_id
        self.prompt_token_ids = prompt_token_ids
        self.cached_tokens = 0
        self.queue = ResponseQueue()
        self._params = params
        self._tokenizer = tokenizer
        self._executor = executor
        self._streaming = streaming
        self._handle_error = handle_error
        self._outputs = [CompletionOutput(index) for index in range(params.best_of)]
        self._done = False

    @property
    def outputs(self) -> list[CompletionOutput]:
        return self._outputs[: self._params.n]

    @property
    def finished(self) -> bool:
        return self._done

    def abort(self) -> None:
        self._executor.abort(self.request_id)

    def result(self, timeout: float | None = None) -> RequestOutput:
        while not self._done:
            self._take(self.queue.get())
        return self

    async def aresult(self) -> RequestOutput:
        while not self._done:
            self._take(await self.queue.aget())
        return self

    def __await__(self) -> Any:
        return self.aresult().__await__()

    def __aiter__(self) -> RequestOutput:
        return self

    async def __anext__(self) -> RequestOutput:
        if self._done:
            raise StopAsyncIteration
        self._take(await self.queue.aget())
        return self

    def _take(self, response: Response) -> None:
        if isinstance(response.error, str):
            raise RequestError(response.error)
        if response.error is not None:
            self._handle_error(response.error)
        self._done = response.finish is not None
        if response.beams is not None:
            for output, token_ids in zip(self._outputs, response.beams, strict=True):
                output.token_ids = token_ids
                self._finish(output, response.finish)
        else:
            output = self._outputs[0]
            output.last_token_ids_len = len(output.token_ids)
            output.token_ids.extend(response.token_ids)
            output.logprobs.extend(response.logprobs)
            self._finish(output, response.finish)
        for output in self.outputs:
            self._detokenize(output)

    def _finish(self, output: CompletionOutput, finish: str | None) -> None:
        output.finish_reason = "stop" if finish == "stop_words" else finish
        if finish != "stop_words":
            return
        for reason, words in self._params.stop_reasons_and_words:
            if output.token_ids[-len(words) :] == words:
                output.stop_reason = reason
                # The text that earlier responses made of these tokens stays.
                output.token_ids = output.token_ids[: -len(words)]
                return

    def _detokenize(self, output: CompletionOutput) -> None:
        output.last_text_len = len(output.text)
        skip = self._params.skip_special_tokens
        if self._streaming and not self._params.use_beam_search:
            output.stream = output.stream or DecodeStream(skip_special_tokens=skip)
            fast = self._tokenizer._tokenizer
            pieces = [output.stream.step(fast, token_id) for token_id in output.token_ids_diff]
            output.text += "".join(piece for piece in pieces if piece)
        else:
            output.text = self._tokenizer.decode(output.token_ids, skip_special_tokens=skip)
        if output.finish_reason not in (None, "stop", "length"):
            return
        for stop in self._params.stop_strings:
            at = output.text.find(stop)
            if at >= 0:
                output.text = output.text[:at]
                output.finish_reason, output.stop_reason = "stop", stop
                self.abort()
                self._done = True
                return
