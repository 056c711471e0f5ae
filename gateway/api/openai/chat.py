"""How chat completions look on the wire."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Final

import orjson

from contract.messages import (
    Delta,
    Done,
    Job,
    Status,
    TokenLogprob,
)
from gateway.api.openai.bodies import (
    CachedTokens,
    OpenAIUsage,
    ReasoningTokens,
)
from gateway.api.openai.chat_form import (
    USUAL,
    ChatForm,
    function_of,
    inside_of,
    made_call,
)
from gateway.http.error_answers import OPENAI, openai_body
from gateway.http.errors import ApiError
from gateway.streams import sse
from gateway.streams.dialects import AnswerChoice, Timings

DONE: Final = b"data: [DONE]\n\n"
_LOGPROBS: Final = b'{"content":[%b],"refusal":null}'


class ChatStream:
    """Chunks: the role first, then text, reasoning and tool calls in pieces, then why it ended,
    then `[DONE]`. `numbered` pieces, and `[DONE]`, have ids, so that a client can resume after the
    last it has in full."""

    errors = OPENAI

    def __init__(
        self,
        job: Job,
        *,
        include_usage: bool,
        numbered: bool = False,
        form: ChatForm = USUAL,
    ) -> None:
        self._include_usage = include_usage
        self._form = form
        self.numbered = numbered
        self.mark = b""
        self._with_others = job.sampling.logprobs != 0
        self._chunk: dict[str, Any] = {
            "id": f"chatcmpl-{job.id}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": job.model,
        }
        before = orjson.dumps(self._chunk)[:-1]
        self._befores = [
            b'data: %b,"choices":[{"index":%d,"delta":{"content":' % (before, index)
            for index in range(job.sampling.n)
        ]
        self._end = b'}],"usage":null}\n\n' if include_usage else b"}]}\n\n"
        self._after = b'},"logprobs":null,"finish_reason":null' + self._end

    def opening(self) -> bytes:
        role = {"role": "assistant", "content": ""}
        return b"".join(self._choice(i, role) for i in range(len(self._befores)))

    def delta(self, seq: int, delta: Delta) -> bytes:
        before, text = self._befores[delta.index], sse.json_text(delta.text)
        if type(delta) is not Delta:
            text = inside_of(delta, text, self._form)
            if not text:
                return b""
            before = before.removesuffix(b'"content":')
        if self.numbered:
            before = sse.with_id(seq, self.mark, before)
        if delta.logprobs is None:
            return before + text + self._after
        logprobs = _LOGPROBS % chat_logprobs(delta.logprobs, self._with_others)
        return b'%b%b},"logprobs":%b,"finish_reason":null%b' % (before, text, logprobs, self._end)

    def status(self, status: Status) -> bytes:
        return sse.waiting(status)

    def done(self, seq: int, done: Done, timings: Timings) -> bytes:
        reasons = map(self._form.finish_reason, done.finish_reasons)
        chunks = [self._choice(i, {}, reason) for i, reason in enumerate(reasons)]
        return b"".join(chunks) + self._rest(seq, done)

    def done_in(self, last: bytes, seq: int, done: Done) -> bytes:
        before = self._befores[0].removesuffix(b'"content":')
        if not last.startswith(before) or last.startswith(before + b'"role"'):
            return b""
        chunk = finished(last, self._form.finish_reason(done.finish_reasons[0]), self._end)
        return chunk and chunk + self._rest(seq, done)

    def _rest(self, seq: int, done: Done) -> bytes:
        """Return all that follows the finish reasons."""
        chunks: list[bytes] = []
        if self._include_usage:
            usage = usage_of(done).model_dump()
            chunks.append(sse.event(orjson.dumps({**self._chunk, "choices": [], "usage": usage})))
        end = sse.with_id(seq, self.mark, DONE) if self.numbered else DONE
        return b"".join([*chunks, end])

    def error(self, error: ApiError) -> bytes:
        return sse.event(orjson.dumps(openai_body(error)))

    def _choice(self, index: int, delta: dict[str, str], finish_reason: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        chunk = {**self._chunk, "choices": [choice]}
        if self._include_usage:
            chunk["usage"] = None
        return sse.event(orjson.dumps(chunk))


class ChatSoFar(AnswerChoice):
    """One choice of a whole answer, with its log probabilities in JSON."""

    def __init__(self, with_others: bool, form: ChatForm) -> None:
        super().__init__()
        self._form = form
        self._with_others = with_others
        self._logprobs: list[bytes] = []

    @property
    def logprobs(self) -> orjson.Fragment | None:
        if not self._logprobs:
            return None
        return orjson.Fragment(_LOGPROBS % b",".join(self._logprobs))

    @property
    def message(self) -> dict[str, Any]:
        """A `ChatAnswerMessage`."""
        text, reasoning = self.text, self.reasoning
        content = None if (self.calls or reasoning) and not text else text
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if self._form.reasoning and reasoning:
            message |= {"reasoning": reasoning, "reasoning_content": reasoning}
        if self.calls and self._form.functions:
            message["function_call"] = function_of(self.calls[min(self.calls)])
        elif self.calls:
            message["tool_calls"] = [made_call(call) for _, call in sorted(self.calls.items())]
        return message

    def add(self, delta: Delta) -> None:
        super().add(delta)
        if delta.logprobs:
            self._logprobs.append(chat_logprobs(delta.logprobs, self._with_others))


class ChatWhole:
    """One JSON object, a `ChatCompletion`."""

    errors = OPENAI

    def __init__(self, job: Job, *, form: ChatForm = USUAL) -> None:
        self._job_id = job.id
        self._model = job.model
        self._form = form
        self._with_others = job.sampling.logprobs != 0

    def new_choice(self) -> ChatSoFar:
        return ChatSoFar(self._with_others, self._form)

    def body(self, choices: list[ChatSoFar], done: Done, timings: Timings) -> bytes:
        return orjson.dumps(self.completion(choices, done))

    def completion(self, choices: list[ChatSoFar], done: Done) -> dict[str, Any]:
        """A `ChatCompletion`."""
        ends = zip(choices, done.finish_reasons, strict=True)
        return {
            "id": f"chatcmpl-{self._job_id}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": self._model,
            "choices": [
                {
                    "index": index,
                    "message": choice.message,
                    "logprobs": choice.logprobs,
                    "finish_reason": self._form.finish_reason(reason),
                    "stop_reason": stop_string_of(done, index),
                    "token_ids": None,
                }
                for index, (choice, reason) in enumerate(ends)
            ],
            "usage": usage_of(done).model_dump(),
            "prompt_logprobs": None,
            "prompt_token_ids": None,
        }


def stop_string_of(done: Done, index: int) -> str | None:
    """Return the stop string that ended a choice, if one did."""
    return (done.stop_strings[index] or None) if done.stop_strings else None


def finished(chunk: bytes, reason: str, end: bytes) -> bytes:
    """Return a chunk with the reason why its choice ended; empty if it is none of a choice."""
    text = chunk.removesuffix(b"null" + end)
    return b'%b"%b"%b' % (text, reason.encode(), end) if len(text) < len(chunk) else b""


def usage_of(done: Done) -> OpenAIUsage:
    return OpenAIUsage(
        prompt_tokens=done.prompt_tokens,
        completion_tokens=done.completion_tokens,
        total_tokens=done.prompt_tokens + done.completion_tokens,
        prompt_tokens_details=CachedTokens(cached_tokens=done.cached_tokens),
        completion_tokens_details=ReasoningTokens(reasoning_tokens=done.reasoning_tokens),
    )


def chat_logprobs(logprobs: Iterable[TokenLogprob], with_others: bool) -> bytes:
    """JSON of `ChatLogprob`s, with commas between them. Engines give the token that was chosen
    among the others, also where a request asks for none of them."""
    return orjson.dumps([_with_alternatives(each, with_others) for each in logprobs])[1:-1]


def _with_alternatives(of: TokenLogprob, with_others: bool) -> dict[str, Any]:
    others = of.alternatives if with_others else ()
    alternatives = [_alternative(token, logprob) for token, logprob in others]
    return {**_alternative(of.token, of.logprob), "top_logprobs": alternatives}


def _alternative(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": [*token.encode()]}
