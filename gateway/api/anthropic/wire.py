"""How answers are streamed in Anthropic's API: the content blocks of a message are open one after
the other."""

from __future__ import annotations

from typing import Any, Final

import orjson

from contract.messages import Delta, Done, Job, PromptDelta, Status, ToolCallDelta
from gateway.api.anthropic.message import end_of, kind_of, message, signature_of, usage_of
from gateway.http.error_answers import ANTHROPIC, anthropic_body
from gateway.http.errors import ApiError
from gateway.streams import sse
from gateway.streams.dialects import Timings

PING: Final = sse.event(b'{"type":"ping"}', name="ping")
#: By the type of a block: the type of its pieces, and their field.
_PIECES: Final = {
    "text": (b"text_delta", b"text"),
    "thinking": (b"thinking_delta", b"thinking"),
    "tool_use": (b"input_json_delta", b"partial_json"),
}
_PIECE: Final = (
    b"event: content_block_delta\n"
    b'data: {"type":"content_block_delta","index":%d,"delta":{"type":"%b","%b":'
)
_PIECE_END: Final = b"}}\n\n"


class MessageStream:
    """Events in Anthropic's order. `numbered` pieces, and the end, have ids, so that a client can
    resume after the last it has in full."""

    errors = ANTHROPIC

    def __init__(self, job: Job, request_id: str, *, numbered: bool = False) -> None:
        self._job_id = job.id
        self._model = job.model
        self._request_id = request_id
        self.numbered = numbered
        self.mark = b""
        #: The block that is open, and what begins each of its pieces.
        self._open: tuple[str, int] | None = None
        self._before = b""
        self._blocks = 0
        #: Where the pieces of a call go, by its number.
        self._calls: dict[int, bytes] = {}
        self._has_begun = False

    def opening(self) -> bytes:
        """The message begins with its first piece: then it is known how long the prompt is."""
        return b""

    def _begin(self, prompt_tokens: int = 0) -> bytes:
        """Return the beginning of the message, once."""
        if self._has_begun:
            return b""
        self._has_begun = True
        usage = usage_of(Done((), prompt_tokens, 0))
        empty = message(self._job_id, self._model, [], None, "", usage)
        return _event("message_start", message=empty)

    def delta(self, seq: int, delta: Delta) -> bytes:
        if isinstance(delta, PromptDelta):
            return self._begin(delta.count)
        return self._begin() + self._piece(seq, delta)

    def _piece(self, seq: int, delta: Delta) -> bytes:
        kind = kind_of(delta)
        piece = b""
        if delta.text:
            piece = sse.json_text(delta.text) + _PIECE_END
        if kind == self._open:
            events, before = b"", self._before
        elif kind[0] == "tool_use" and kind[1] in self._calls:
            # Of a call that another block came after: clients put it where it belongs.
            events, before = b"", self._calls[kind[1]]
        else:
            events = self._stop() + self._start(kind, delta)
            before = self._before
        if not piece:
            return events
        last = before + piece
        return events + (sse.with_id(seq, self.mark, last) if self.numbered else last)

    def status(self, status: Status) -> bytes:
        return PING

    def done(self, seq: int, done: Done, timings: Timings) -> bytes:
        events = self._begin(done.prompt_tokens) + self._stop()
        if not self._blocks:
            events += self._start(("text", 0), Delta("", b"")) + self._stop()
        reason, stop = end_of(done, called=bool(self._calls))
        ended = {"stop_reason": reason, "stop_sequence": stop or None}
        events += _event("message_delta", delta=ended, usage=usage_of(done))
        last = _event("message_stop")
        return events + (sse.with_id(seq, self.mark, last) if self.numbered else last)

    def error(self, error: ApiError) -> bytes:
        return sse.event(orjson.dumps(anthropic_body(error, self._request_id)), name="error")

    def _start(self, kind: tuple[str, int], delta: Delta) -> bytes:
        self._open = kind
        index, self._blocks = self._blocks, self._blocks + 1
        self._before = _PIECE % (index, *_PIECES[kind[0]])
        block: dict[str, Any] = {"type": kind[0]}
        if isinstance(delta, ToolCallDelta):
            self._calls[delta.call] = self._before
            block |= {"id": delta.id, "name": delta.name, "input": {}}
        elif kind[0] == "text":
            block |= {"text": ""}
        else:
            block |= {"thinking": "", "signature": ""}
        return _event("content_block_start", index=index, content_block=block)

    def _stop(self) -> bytes:
        if self._open is None:
            return b""
        index, (kind, _) = self._blocks - 1, self._open
        self._open = None
        stop = _event("content_block_stop", index=index)
        if kind != "thinking":
            return stop
        signed = {"type": "signature_delta", "signature": signature_of(self._job_id)}
        return _event("content_block_delta", index=index, delta=signed) + stop


def _event(kind: str, **fields: Any) -> bytes:
    return sse.event(orjson.dumps({"type": kind, **fields}), name=kind)
