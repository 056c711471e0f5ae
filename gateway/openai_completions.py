"""How text completions look on the wire."""

from __future__ import annotations

import time
from collections.abc import Iterable

import orjson

from contract.messages import Delta, Done, FinishReason, Job, Status, TokenLogprob
from gateway import sse
from gateway.answers import Choice, Timings
from gateway.errors import ApiError, openai_body
from gateway.openai_bodies import TextChoice, TextCompletion, TextLogprobs
from gateway.openai_chat import DONE, finish_reason_of, usage_of


class TextStream:
    """Chunks of text, then why it ended, then `[DONE]`; `numbered` ones with ids."""

    openai = True

    def __init__(self, job: Job, *, include_usage: bool, numbered: bool = False) -> None:
        self._include_usage = include_usage
        self._numbered = numbered
        self._completion = TextCompletion(
            id=f"cmpl-{job.id}", created=int(time.time()), model=job.model, choices=[]
        )
        before = orjson.dumps(self._completion.model_dump(exclude={"choices", "usage"}))[:-1]
        self._befores = [
            b'data: %b,"choices":[{"index":%d,"text":' % (before, index)
            for index in range(job.sampling.n)
        ]
        self._offsets = [0] * job.sampling.n
        self._end = b'}],"usage":null}\n\n' if include_usage else b"}]}\n\n"
        self._after = b',"logprobs":null,"finish_reason":null' + self._end

    def opening(self) -> bytes:
        return b""

    def delta(self, seq: int, delta: Delta) -> bytes:
        before, text = self._befores[delta.index], sse.json_text(delta.text)
        if self._numbered:
            before = sse.with_id(seq, before)
        if delta.logprobs is None:
            return before + text + self._after
        logprobs = text_logprobs(delta.logprobs, self._offsets[delta.index])
        self._offsets[delta.index] += len(delta.text)
        encoded = logprobs.model_dump_json().encode()
        return b'%b%b,"logprobs":%b,"finish_reason":null%b' % (before, text, encoded, self._end)

    def status(self, status: Status) -> bytes:
        return sse.HEARTBEAT

    def done(self, seq: int, done: Done, timings: Timings) -> bytes:
        reasons = map(finish_reason_of, done.finish_reasons)
        chunks = [self._finish(i, reason) for i, reason in enumerate(reasons)]
        if self._include_usage:
            last = self._completion.model_copy(update={"usage": usage_of(done)})
            chunks.append(sse.event(last.model_dump_json().encode()))
        return b"".join([*chunks, sse.with_id(seq, DONE) if self._numbered else DONE])

    def error(self, error: ApiError) -> bytes:
        return sse.event(orjson.dumps(openai_body(error)))

    def _finish(self, index: int, reason: str) -> bytes:
        finish = b'"","logprobs":null,"finish_reason":"%b"' % reason.encode()
        return self._befores[index] + finish + self._end


class TextWhole:
    """One JSON object."""

    openai = True

    def __init__(self, job: Job) -> None:
        self._job_id = job.id
        self._model = job.model

    def body(self, choices: list[Choice], done: Done, timings: Timings) -> bytes:
        completion = TextCompletion(
            id=f"cmpl-{self._job_id}",
            created=int(time.time()),
            model=self._model,
            choices=[
                _text_choice(index, choice, reason)
                for index, (choice, reason) in enumerate(
                    zip(choices, done.finish_reasons, strict=True)
                )
            ],
            usage=usage_of(done),
        )
        return completion.model_dump_json().encode()


def _text_choice(index: int, choice: Choice, reason: FinishReason) -> TextChoice:
    logprobs = text_logprobs(choice.logprobs) if choice.logprobs else None
    return TextChoice(
        index=index,
        text=choice.text,
        logprobs=logprobs,
        finish_reason=finish_reason_of(reason),
    )


def text_logprobs(logprobs: Iterable[TokenLogprob], offset: int = 0) -> TextLogprobs:
    """`offset` is where in the text the first token begins."""
    answer = TextLogprobs(tokens=[], token_logprobs=[], top_logprobs=[], text_offset=[])
    for each in logprobs:
        answer.tokens.append(each.token)
        answer.token_logprobs.append(each.logprob)
        answer.top_logprobs.append(dict(each.alternatives))
        answer.text_offset.append(offset)
        offset += len(each.token)
    return answer
