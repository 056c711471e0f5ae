"""How text completions look on the wire."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import orjson

from contract.messages import Delta, Done, Job, Status, TokenLogprob
from gateway.api.openai.chat import DONE, finished, stop_string_of, usage_of
from gateway.api.openai.chat_form import finish_reason_of
from gateway.http.error_answers import OPENAI, openai_body
from gateway.http.errors import ApiError
from gateway.streams import sse
from gateway.streams.dialects import AnswerChoice, Timings


class TextStream:
    """Chunks of text, then why it ended, then `[DONE]`; `numbered` ones with ids."""

    errors = OPENAI

    def __init__(self, job: Job, *, include_usage: bool, numbered: bool = False) -> None:
        self._include_usage = include_usage
        self.numbered = numbered
        self.mark = b""
        self._chunk = _head_of(job.id, job.model)
        before = orjson.dumps(self._chunk)[:-1]
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
        if self.numbered:
            before = sse.with_id(seq, self.mark, before)
        if delta.logprobs is None:
            return before + text + self._after
        logprobs = text_logprobs(delta.logprobs, self._offsets[delta.index])
        self._offsets[delta.index] += len(delta.text)
        encoded = json_of([logprobs])
        return b'%b%b,"logprobs":%b,"finish_reason":null%b' % (before, text, encoded, self._end)

    def status(self, status: Status) -> bytes:
        return sse.waiting(status)

    def done(self, seq: int, done: Done, timings: Timings) -> bytes:
        reasons = map(finish_reason_of, done.finish_reasons)
        chunks = [self._finish(i, reason) for i, reason in enumerate(reasons)]
        return b"".join(chunks) + self._rest(seq, done)

    def done_in(self, last: bytes, seq: int, done: Done) -> bytes:
        if not last.startswith(self._befores[0]):
            return b""
        chunk = finished(last, finish_reason_of(done.finish_reasons[0]), self._end)
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

    def _finish(self, index: int, reason: str) -> bytes:
        finish = b'"","logprobs":null,"finish_reason":"%b"' % reason.encode()
        return self._befores[index] + finish + self._end


class TextSoFar(AnswerChoice):
    """One choice of a whole answer, with its log probabilities in JSON."""

    def __init__(self) -> None:
        super().__init__()
        self._offset = 0
        self._columns: list[Columns] = []

    @property
    def logprobs(self) -> orjson.Fragment | None:
        return orjson.Fragment(json_of(self._columns)) if self._columns else None

    def add(self, delta: Delta) -> None:
        super().add(delta)
        if delta.logprobs:
            self._columns.append(text_logprobs(delta.logprobs, self._offset))
            self._offset += sum(len(each.token) for each in delta.logprobs)


class TextWhole:
    """One JSON object, a `TextCompletion`."""

    errors = OPENAI

    def __init__(self, job: Job) -> None:
        self._job_id = job.id
        self._model = job.model

    def new_choice(self) -> TextSoFar:
        return TextSoFar()

    def body(self, choices: list[TextSoFar], done: Done, timings: Timings) -> bytes:
        completion = {
            **_head_of(self._job_id, self._model),
            "choices": self.choices(choices, done),
            "usage": usage_of(done).model_dump(),
        }
        return orjson.dumps(completion)

    def choices(self, choices: list[TextSoFar], done: Done) -> list[dict[str, Any]]:
        """A `TextChoice` for each."""
        return [
            {
                "index": index,
                "text": choice.text,
                "logprobs": choice.logprobs,
                "finish_reason": finish_reason_of(reason),
                "stop_reason": stop_string_of(done, index),
                "prompt_logprobs": None,
                "prompt_token_ids": None,
                "token_ids": None,
            }
            for index, (choice, reason) in enumerate(zip(choices, done.finish_reasons, strict=True))
        ]


def _head_of(job_id: str, model: str) -> dict[str, Any]:
    """Return the fields of a `TextCompletion` that are known before its text."""
    return {
        "id": f"cmpl-{job_id}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": model,
    }


class Columns(NamedTuple):
    """Some columns of `TextLogprobs` in JSON, with commas between their items."""

    tokens: bytes
    token_logprobs: bytes
    top_logprobs: bytes
    text_offset: bytes


def text_logprobs(logprobs: Sequence[TokenLogprob], offset: int) -> Columns:
    """`offset` is where in the text the first token begins."""
    ends = accumulate((len(each.token) for each in logprobs), initial=offset)
    columns = (
        [each.token for each in logprobs],
        [each.logprob for each in logprobs],
        [dict(each.alternatives) for each in logprobs],
        [*ends][:-1],
    )
    return Columns(*(orjson.dumps(column)[1:-1] for column in columns))


def json_of(pieces: Sequence[Columns]) -> bytes:
    columns = zip(Columns._fields, zip(*pieces, strict=True), strict=True)
    named = (b'"%b":[%b]' % (name.encode(), b",".join(column)) for name, column in columns)
    return b"{%b}" % b",".join(named)
