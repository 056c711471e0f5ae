"""The items of an answer, as they come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import orjson

from contract.messages import Delta, ReasoningDelta, ToolCallDelta
from gateway.api.openai.chat import chat_logprobs
from gateway.api.responses.tools import CalledAs
from gateway.streams.dialects import AnswerChoice

ItemKind = Literal["message", "reasoning", "function_call", "custom_tool_call"]
ItemStatus = Literal["in_progress", "completed", "incomplete"]
_PREFIXES: Final[Mapping[ItemKind, str]] = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "custom_tool_call": "ctc",
}


class OutputItem:
    """One item; `index` is its place in the output."""

    def __init__(self, kind: ItemKind, index: int, job_id: str) -> None:
        self.kind = kind
        self.index = index
        self.id = f"{_PREFIXES[kind]}_{job_id}_{index}"
        self.call_id = ""
        self.called = CalledAs("")
        self._texts: list[str] = []
        self._logprobs: list[bytes] = []

    @property
    def text(self) -> str:
        return "".join(self._texts)

    @property
    def custom_input(self) -> str:
        """The input of a custom tool's call. The model writes it as the field of an object."""
        try:
            read = orjson.loads(self.text)
        except orjson.JSONDecodeError:
            return self.text
        given = read.get("input") if isinstance(read, dict) else None
        return given if isinstance(given, str) else self.text

    @property
    def logprobs(self) -> orjson.Fragment:
        return orjson.Fragment(b"[%b]" % b",".join(self._logprobs))

    def add(self, delta: Delta, with_others: bool) -> None:
        self._texts.append(delta.text)
        if delta.logprobs:
            self._logprobs.append(chat_logprobs(delta.logprobs, with_others))

    def part(self, *, is_begun: bool = False) -> dict[str, Any]:
        """Return the one part of a message or of reasoning; empty where it has just begun."""
        text = "" if is_begun else self.text
        if self.kind == "reasoning":
            return {"type": "reasoning_text", "text": text}
        logprobs = [] if is_begun else self.logprobs
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}

    def written(self, status: ItemStatus) -> dict[str, Any]:
        """Return it as the API has it; without its content while it is `in_progress`."""
        is_begun = status == "in_progress"
        item: dict[str, Any] = {"id": self.id, "type": self.kind, "status": status}
        if self.kind == "message":
            return item | {"role": "assistant", "content": [] if is_begun else [self.part()]}
        if self.kind == "reasoning":
            return item | {"summary": [], "content": [] if is_begun else [self.part()]}
        item |= {"call_id": self.call_id, "name": self.called.name}
        if self.called.namespace:
            item["namespace"] = self.called.namespace
        if self.kind == "custom_tool_call":
            return item | {"input": "" if is_begun else self.custom_input}
        return item | {"arguments": "" if is_begun else self.text}


class Output(AnswerChoice):
    """All items of an answer, in the order in which they began. `names` tells how calls of each
    function are told."""

    def __init__(
        self, job_id: str, names: Mapping[str, CalledAs], *, with_others: bool, reasons: bool
    ) -> None:
        super().__init__()
        self.items: list[OutputItem] = []
        self._job_id = job_id
        self._names = names
        self._with_others = with_others
        self._reasons = reasons
        self._by_call: dict[int, OutputItem] = {}
        self._last: OutputItem | None = None

    def add(self, delta: Delta) -> None:
        self.take(delta)

    def take(self, delta: Delta) -> OutputItem | None:
        """Add a piece. Return the item that it belongs to, None if it is not shown."""
        if isinstance(delta, ReasoningDelta) and not self._reasons:
            return None
        item = self._item_of(delta)
        if item is not None:
            item.add(delta, self._with_others)
        return item

    def begin_message(self) -> OutputItem:
        """Return a message without text, for an answer that has nothing else."""
        return self._begin("message")

    def written(self, last: ItemStatus) -> list[dict[str, Any]]:
        """Return all items, the last of which has that status."""
        done = [item.written("completed") for item in self.items[:-1]]
        return [*done, *(item.written(last) for item in self.items[-1:])]

    def _item_of(self, delta: Delta) -> OutputItem | None:
        if isinstance(delta, ToolCallDelta):
            if delta.call not in self._by_call:
                self._by_call[delta.call] = self._begin_call(delta)
            return self._by_call[delta.call]
        kind: ItemKind = "reasoning" if isinstance(delta, ReasoningDelta) else "message"
        if self._last is not None and self._last.kind == kind:
            return self._last
        return self._begin(kind) if delta.text else None

    def _begin_call(self, delta: ToolCallDelta) -> OutputItem:
        called = self._names.get(delta.name, CalledAs(delta.name))
        item = self._begin("custom_tool_call" if called.is_custom else "function_call")
        item.call_id, item.called = delta.id, called
        return item

    def _begin(self, kind: ItemKind) -> OutputItem:
        self._last = OutputItem(kind, len(self.items), self._job_id)
        self.items.append(self._last)
        return self._last
