"""How chat completions look on the wire."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Final

import orjson

from contract.messages import Delta, Done, FinishReason, Job, Status, TokenLogprob
from gateway import sse
from gateway.answers import Choice, Timings
from gateway.errors import ApiError, openai_body
from gateway.openai_bodies import (
    Alternative,
    CachedTokens,
    ChatAnswerMessage,
    ChatChoice,
    ChatCompletion,
    ChatLogprob,
    ChatLogprobs,
    OpenAIFinishReason,
    OpenAIUsage,
)

DONE: Final = b"data: [DONE]\n\n"


class ChatStream:
    """Chunks: the role first, then text, then why it ended, then `[DONE]`. `numbered` chunks of
    text, and `[DONE]`, have ids, so that a client can resume after the last it has in full."""

    openai = True

    def __init__(self, job: Job, *, include_usage: bool, numbered: bool = False) -> None:
        self._include_usage = include_usage
        self._numbered = numbered
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
        if self._numbered:
            before = sse.with_id(seq, before)
        if delta.logprobs is None:
            return before + text + self._after
        logprobs = chat_logprobs(delta.logprobs).model_dump_json().encode()
        return b'%b%b},"logprobs":%b,"finish_reason":null%b' % (before, text, logprobs, self._end)

    def status(self, status: Status) -> bytes:
        return sse.HEARTBEAT

    def done(self, seq: int, done: Done, timings: Timings) -> bytes:
        reasons = map(finish_reason_of, done.finish_reasons)
        chunks = [self._choice(i, {}, reason) for i, reason in enumerate(reasons)]
        if self._include_usage:
            usage = usage_of(done).model_dump()
            chunks.append(sse.event(orjson.dumps({**self._chunk, "choices": [], "usage": usage})))
        return b"".join([*chunks, sse.with_id(seq, DONE) if self._numbered else DONE])

    def error(self, error: ApiError) -> bytes:
        return sse.event(orjson.dumps(openai_body(error)))

    def _choice(self, index: int, delta: dict[str, str], finish_reason: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        chunk = {**self._chunk, "choices": [choice]}
        if self._include_usage:
            chunk["usage"] = None
        return sse.event(orjson.dumps(chunk))


class ChatWhole:
    """One JSON object."""

    openai = True

    def __init__(self, job: Job) -> None:
        self._job_id = job.id
        self._model = job.model

    def body(self, choices: list[Choice], done: Done, timings: Timings) -> bytes:
        completion = ChatCompletion(
            id=f"chatcmpl-{self._job_id}",
            created=int(time.time()),
            model=self._model,
            choices=[
                ChatChoice(
                    index=index,
                    message=ChatAnswerMessage(content=choice.text),
                    logprobs=chat_logprobs(choice.logprobs) if choice.logprobs else None,
                    finish_reason=finish_reason_of(reason),
                )
                for index, (choice, reason) in enumerate(
                    zip(choices, done.finish_reasons, strict=True)
                )
            ],
            usage=usage_of(done),
        )
        return completion.model_dump_json().encode()


def finish_reason_of(reason: FinishReason) -> OpenAIFinishReason:
    """In OpenAI's words, which are the same."""
    if reason == "cancelled":
        raise ValueError("a cancelled answer ends with an error")
    return reason


def usage_of(done: Done) -> OpenAIUsage:
    return OpenAIUsage(
        prompt_tokens=done.prompt_tokens,
        completion_tokens=done.completion_tokens,
        total_tokens=done.prompt_tokens + done.completion_tokens,
        prompt_tokens_details=CachedTokens(cached_tokens=done.cached_tokens),
    )


def chat_logprobs(logprobs: Iterable[TokenLogprob]) -> ChatLogprobs:
    content = []
    for each in logprobs:
        top = [_alternative(token, logprob) for token, logprob in each.alternatives]
        own = _alternative(each.token, each.logprob)
        content.append(ChatLogprob(**own.model_dump(), top_logprobs=top))
    return ChatLogprobs(content=content)


def _alternative(token: str, logprob: float) -> Alternative:
    return Alternative(token=token, logprob=logprob, bytes=list(token.encode()))
