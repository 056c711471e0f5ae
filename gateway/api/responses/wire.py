"""How answers look on the wire of the Responses API."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

import orjson

from contract.messages import Delta, Done, Status
from gateway.api.openai.chat import chat_logprobs
from gateway.api.responses import response
from gateway.api.responses.output import ItemKind, ItemStatus, Output, OutputItem
from gateway.api.responses.tools import CalledAs
from gateway.http.error_answers import OPENAI
from gateway.http.errors import ApiError
from gateway.streams import sse
from gateway.streams.dialects import Timings

#: By the kind of an item, the events that its pieces and its end are.
_PIECES: Final[Mapping[ItemKind, str]] = {
    "message": "response.output_text",
    "reasoning": "response.reasoning_text",
    "function_call": "response.function_call_arguments",
    "custom_tool_call": "response.custom_tool_call_input",
}
_PIECE: Final = (
    b'event: %b.delta\ndata: {"type":"%b.delta","sequence_number":%%d,"item_id":"%b",'
    b'"output_index":%d,%b"delta":'
)
_IN_PARTS: Final = ("message", "reasoning")


class ResponseShape:
    """The parts that both forms of an answer share: the response as it begins, and how its items
    are told. `names` tells how calls of each function are told; `ended_s` is when it ended, if that
    is not now (Unix)."""

    def __init__(
        self,
        begun: dict[str, Any],
        names: Mapping[str, CalledAs],
        *,
        shows_reasoning: bool,
        with_others: bool,
        ended_s: float | None = None,
    ) -> None:
        self.begun = begun
        self.with_others = with_others
        self._names = names
        self._shows_reasoning = shows_reasoning
        self._ended_s = ended_s

    def output(self) -> Output:
        """Return an output without items."""
        return Output(
            self.begun["id"].removeprefix(response.ID_PREFIX),
            self._names,
            with_others=self.with_others,
            reasons=self._shows_reasoning,
        )

    def ended(self, output: Output, done: Done) -> dict[str, Any]:
        """Return the response with its answer, which has an empty message if there is nothing."""
        if not output.items:
            output.begin_message()
        ended_s = time.time() if self._ended_s is None else self._ended_s
        return response.ended(self.begun, output, done, ended_s)


class ResponseStream:
    """Events in OpenAI's order, numbered from 0; those up to `starting_after` are left out.
    `resumable` pieces, and the end, have ids, so that a client can resume after the last it has in
    full."""

    errors = OPENAI

    def __init__(
        self, shape: ResponseShape, *, resumable: bool = False, starting_after: int = -1
    ) -> None:
        self.numbered, self.mark = resumable, b""
        self._shape = shape
        self._output = shape.output()
        self._after = starting_after
        #: `response.created` and `response.in_progress` are the first two.
        self._number = 2
        self._open: OutputItem | None = None
        self._before = self._end = b""

    def opening(self) -> bytes:
        number, self._number = self._number, 0
        begun = {**self._shape.begun, "status": "in_progress"}
        events = self._event("response.created", response=begun)
        events += self._event("response.in_progress", response=begun)
        self._number = number
        return events

    def delta(self, seq: int, delta: Delta) -> bytes:
        item = self._output.take(delta)
        if item is None:
            return b""
        events = b""
        if item is not self._open and item.index + 1 == len(self._output.items):
            events = self._close() + self._begin(item)
        if not delta.text or item.kind == "custom_tool_call":
            return events
        piece = self._piece(item, delta)
        return events + (sse.with_id(seq, self.mark, piece) if self.numbered and piece else piece)

    def status(self, status: Status) -> bytes:
        return sse.HEARTBEAT

    def done(self, seq: int, done: Done, timings: Timings) -> bytes:
        events = b""
        if not self._output.items:
            events = self._begin(self._output.begin_message())
        whole = self._shape.ended(self._output, done)
        events += self._close(whole["status"])
        last = self._event(f"response.{whole['status']}", response=whole)
        return events + (sse.with_id(seq, self.mark, last) if self.numbered and last else last)

    def error(self, error: ApiError) -> bytes:
        return self._event("response.failed", response=response.failed(self._shape.begun, error))

    def _begin(self, item: OutputItem) -> bytes:
        self._open = item
        place = b'"content_index":0,' if item.kind in _IN_PARTS else b""
        name = _PIECES[item.kind].encode()
        self._before = _PIECE % (name, name, item.id.encode(), item.index, place)
        self._end = b',"logprobs":[]}\n\n' if item.kind == "message" else b"}\n\n"
        events = self._event(
            "response.output_item.added", output_index=item.index, item=item.written("in_progress")
        )
        if item.kind in _IN_PARTS:
            part = item.part(is_begun=True)
            events += self._event("response.content_part.added", **_place(item), part=part)
        return events

    def _piece(self, item: OutputItem, delta: Delta) -> bytes:
        if item is not self._open:
            # Of a call that another item came after: clients put it where it belongs.
            kind = f"{_PIECES[item.kind]}.delta"
            return self._event(kind, item_id=item.id, output_index=item.index, delta=delta.text)
        number, self._number = self._number, self._number + 1
        if number <= self._after:
            return b""
        end = self._end
        if delta.logprobs is not None and item.kind == "message":
            logprobs = chat_logprobs(delta.logprobs, self._shape.with_others)
            end = b',"logprobs":[%b]}\n\n' % logprobs
        return self._before % number + sse.json_text(delta.text) + end

    def _close(self, status: ItemStatus = "completed") -> bytes:
        item, self._open = self._open, None
        if item is None:
            return b""
        whole = item.written(status)
        events = b""
        place, name = _place(item), _PIECES[item.kind]
        if item.kind == "message":
            events = self._event(f"{name}.done", **place, text=item.text, logprobs=item.logprobs)
        elif item.kind == "reasoning":
            events = self._event(f"{name}.done", **place, text=item.text)
        elif item.kind == "function_call":
            called = {"name": item.called.name, "arguments": item.text}
            events = self._event(f"{name}.done", **place, **called)
        else:
            events = self._event(f"{name}.delta", **place, delta=whole["input"])
            events += self._event(f"{name}.done", **place, input=whole["input"])
        if item.kind in _IN_PARTS:
            events += self._event("response.content_part.done", **place, part=item.part())
        done = "response.output_item.done"
        return events + self._event(done, output_index=item.index, item=whole)

    def _event(self, kind: str, **fields: Any) -> bytes:
        number, self._number = self._number, self._number + 1
        if number <= self._after:
            return b""
        data = orjson.dumps({"type": kind, "sequence_number": number, **fields})
        return sse.event(data, name=kind)


class ResponseWhole:
    """One JSON object, a `ResponseBody`."""

    errors = OPENAI

    def __init__(self, shape: ResponseShape) -> None:
        self._shape = shape

    def new_choice(self) -> Output:
        return self._shape.output()

    def body(self, choices: list[Output], done: Done, timings: Timings) -> bytes:
        (output,) = choices
        return orjson.dumps(self._shape.ended(output, done))


def _place(item: OutputItem) -> dict[str, Any]:
    place: dict[str, Any] = {"item_id": item.id, "output_index": item.index}
    return place | {"content_index": 0} if item.kind in _IN_PARTS else place
