"""How ew's own API looks on the wire."""

from __future__ import annotations

import orjson
from pydantic import BaseModel

from contract.messages import Delta, Done, ReasoningDelta, Status
from gateway.api.native.schemas import Completion, InferenceAnswer, StatusBody, TimingsBody, Usage
from gateway.http.error_answers import NATIVE, native_body
from gateway.http.errors import ApiError
from gateway.streams import sse
from gateway.streams.dialects import AnswerChoice, Timings


class _Native:
    """The end of an answer, which both of its shapes share."""

    errors = NATIVE

    def __init__(self, model: str, request_id: str) -> None:
        self._model = model
        self._request_id = request_id

    def _completion(self, done: Done, timings: Timings) -> Completion:
        return Completion(
            finish_reason=done.finish_reasons[0],
            usage=Usage(
                prompt_tokens=done.prompt_tokens,
                completion_tokens=done.completion_tokens,
                cached_tokens=done.cached_tokens,
                reasoning_tokens=done.reasoning_tokens,
            ),
            timings=TimingsBody(
                queue_ms=round(timings.queue_ms, 3),
                first_token_ms=round(timings.first_token_ms, 3),
                total_ms=round(timings.total_ms, 3),
            ),
            request_id=self._request_id,
            model_id=self._model,
            pseudo_streamed=done.pseudo_streamed,
        )


class NativeStream(_Native):
    """Events: text and reasoning without a name, then `done` or `error`; `status` while it
    waits."""

    def __init__(self, model: str, request_id: str) -> None:
        super().__init__(model, request_id)
        self.numbered, self.mark = True, b""

    def opening(self) -> bytes:
        return b""

    def delta(self, seq: int, delta: Delta) -> bytes:
        kind = b"reasoning" if isinstance(delta, ReasoningDelta) else b"text"
        text = sse.json_text(delta.text)
        return b'id: %d%b\ndata: {"%b":%b}\n\n' % (seq, self.mark, kind, text)

    def status(self, status: Status) -> bytes:
        body = StatusBody(stage=status.stage, position=status.position, eta_s=status.eta_s)
        return sse.event(_json(body), name="status")

    def done(self, seq: int, done: Done, timings: Timings) -> bytes:
        end = sse.event(_json(self._completion(done, timings)), name="done")
        return sse.with_id(seq, self.mark, end)

    def error(self, error: ApiError) -> bytes:
        return sse.event(orjson.dumps(native_body(error, self._request_id)), name="error")


class NativeWhole(_Native):
    """One JSON object."""

    def new_choice(self) -> AnswerChoice:
        return AnswerChoice()

    def body(self, choices: list[AnswerChoice], done: Done, timings: Timings) -> bytes:
        return _json(self.answer(choices, done, timings))

    def answer(self, choices: list[AnswerChoice], done: Done, timings: Timings) -> InferenceAnswer:
        completion = self._completion(done, timings)
        text, reasoning = choices[0].text, choices[0].reasoning or None
        return InferenceAnswer(text=text, reasoning=reasoning, **completion.model_dump())


def _json(body: BaseModel) -> bytes:
    return body.model_dump_json(by_alias=True).encode()
