"""The stream of an answer in the OpenAI API, and the meaning of its chunks. Servers differ in much
of it: what is harmless is taken as it is meant, and what cannot be read ends its job alone."""

from __future__ import annotations

import json
import math
from typing import Any, Final, NamedTuple

import msgspec

from contract.messages import FinishReason, TokenLogprob
from workers.engines.openai.errors import StreamBroken, UpstreamFailed, refusal
from workers.engines.openai.halves import whole_characters
from workers.engines.openai.logprobs import UpstreamLogprobs
from workers.engines.openai.server_sent_events import Event
from workers.engines.openai.text import UpstreamText
from workers.engines.openai.tools import UpstreamCall
from workers.engines.shared.chances import alone

_MOST_TOKENS: Final = 2**40
#: Every reason that servers of this API are known to give, and what it means. `length` stands for
#: all bounds that cut an answer short.
_FINISH: Final[dict[str, FinishReason]] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "repetition": "length",
    "content_filter": "content_filter",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
}
#: Some servers write one of these while the answer goes on.
_NOT_YET: Final = (None, "", "null")
#: The server gave up on the answer; ew did not ask it to.
_BROKEN_OFF: Final = ("abort", "cancelled", "error", "insufficient_system_resource", "timeout")
#: OpenAI's first form of tools, which ew does not ask for.
_OLD_TOOLS: Final = "function_call"


class UpstreamChoice(msgspec.Struct):
    """New text of one choice."""

    index: int | None = 0
    text: str | None = None
    delta: UpstreamText | None = None
    logprobs: UpstreamLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: Any = None
    #: SGLang's name for it.
    matched_stop: Any = None

    def place(self, choices: int) -> int:
        """Return which of so many choices it is. Raises `UpstreamFailed`."""
        if self.index is None and choices == 1:
            return 0
        if self.index is None or not 0 <= self.index < choices:
            raise UpstreamFailed("the server behind this model answers what nobody asked")
        return self.index

    @property
    def new_text(self) -> str:
        return self.text or (self.delta.text if self.delta else "")

    @property
    def new_reasoning(self) -> str:
        """Return the reasoning, which the server keeps apart from the answer."""
        return self.delta.thought if self.delta else ""

    @property
    def stop_string(self) -> str:
        """Return the stop string that ended the choice, if the server says so; else nothing."""
        said = self.matched_stop if self.stop_reason is None else self.stop_reason
        return whole_characters(said) if isinstance(said, str) else ""

    @property
    def new_calls(self) -> list[UpstreamCall]:
        return (self.delta and self.delta.tool_calls) or []

    def token_logprobs(self, alternatives: int | None) -> tuple[TokenLogprob, ...] | None:
        """One for each new token, with so many alternatives at least if the server gives any. If
        none are asked for, the token itself is the only one, as in vLLM."""
        read = self.logprobs.read() if self.logprobs else ()
        if not alternatives:
            read = tuple(alone(each.token, each.logprob) for each in read)
        return read or None

    def reason(self) -> FinishReason | None:
        """Return why the choice ended, or None if it goes on. Raises `UpstreamFailed`."""
        said = self.finish_reason
        if said in _NOT_YET:
            return None
        if said in _FINISH:
            return _FINISH[said]
        if said in _BROKEN_OFF:
            raise StreamBroken(f"finish reason `{said}`")
        if said == _OLD_TOOLS:
            raise UpstreamFailed("the model called a tool, which ew does not pass on")
        raise UpstreamFailed(
            "the server behind this model ended the answer for a reason that ew does not know",
            note=f"finish reason {said!r:.64}",
        )


class UpstreamUsage(NamedTuple):
    """Token counts of a whole answer; None where the server does not say."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None

    def and_choice(self, other: UpstreamUsage) -> UpstreamUsage:
        """With the tokens of one more choice; the prompt is the same."""
        generated = (self.completion_tokens, other.completion_tokens)
        known = [count for count in generated if count is not None]
        return other._replace(completion_tokens=sum(known) if known else None)


class Chunk(msgspec.Struct):
    """One event of a stream."""

    choices: list[UpstreamChoice] | None = None
    usage: Any = None
    error: Any = None
    object: Any = None
    detail: Any = None
    message: Any = None
    code: Any = None

    @property
    def is_error(self) -> bool:
        """Servers report errors in several forms."""
        says_so = self.error or self.object == "error"
        return bool(says_so or (self.choices is None and (self.detail or self.message)))

    @property
    def status(self) -> int:
        """The HTTP status that an error amounts to."""
        inner = self.error.get("code") if isinstance(self.error, dict) else None
        codes = (code for code in (inner, self.code) if isinstance(code, int))
        return next((code for code in codes if 400 <= code <= 599), 500)

    def counts(self) -> UpstreamUsage | None:
        """None if it gives none. A count that is no number is one that is not given."""
        if not isinstance(self.usage, dict):
            return None
        thought = self._detail("completion_tokens_details", "reasoning_tokens")
        if thought is None:
            # SGLang counts them beside the others.
            thought = _count(self.usage.get("reasoning_tokens"))
        return UpstreamUsage(
            _count(self.usage.get("prompt_tokens")),
            _count(self.usage.get("completion_tokens")),
            self._detail("prompt_tokens_details", "cached_tokens"),
            thought,
        )

    def _detail(self, group: str, name: str) -> int | None:
        details = self.usage.get(group)
        return _count(details.get(name)) if isinstance(details, dict) else None


_decoder: Final = msgspec.json.Decoder(Chunk)


def read_chunk(event: Event) -> Chunk:
    """Raises `UpstreamFailed`, also for an error that the server reports within the stream."""
    try:
        chunk = _decode(event.data)
    except (ValueError, RecursionError) as error:
        if event.is_error:
            raise refusal(500, event.data) from error
        raise UpstreamFailed(
            "the server behind this model sent what is no part of an answer",
            note=f"{type(error).__name__} in an event of {len(event.data)} bytes",
        ) from error
    if event.is_error or chunk.is_error:
        raise refusal(chunk.status, event.data)
    return chunk


def _decode(data: bytes) -> Chunk:
    try:
        return _decoder.decode(data)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        # It takes no halves of characters; Python does.
        return msgspec.convert(json.loads(data), Chunk)


def _count(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return int(value) if 0 <= value <= _MOST_TOKENS else None
