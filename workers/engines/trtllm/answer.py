"""The new parts of TensorRT-LLM's outputs. Those grow in place, and their text may shrink again
when a stop string is recognised, so each choice keeps its own account of what it has sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Final

from contract.messages import FinishReason, Job, TokenLogprob
from workers.engines.shared.chances import finite
from workers.engines.shared.endings import EndedBadly
from workers.engines.shared.parsing.pieces import NewText, reasons_with_calls, say
from workers.engines.shared.parsing.text import ParsedText
from workers.engines.shared.stop_strings import StopStrings
from workers.outbox import Outbox

Decode = Callable[[Sequence[int]], str]

#: The others that releases 0.17 to 1.4 give are no ends of an answer: `timeout` and `cancelled`,
#: for which ew does not ask, and `not_finished`.
_FINISH: Final[dict[str, FinishReason]] = {"stop": "stop", "length": "length"}
#: How many tokens at a junction decide how it is decoded.
_JUNCTION_TOKENS: Final = 8
_PIECE_TOKENS: Final = 8


class TrtllmChoice:
    """One choice of an answer to the tokens `before`, as far as it was sent. `reason` is set
    when it has ended."""

    def __init__(self, before: Sequence[int], stops: StopStrings, decode: Decode) -> None:
        self.reason: FinishReason | None = None
        self.stop_string = ""
        self._before = before[-_JUNCTION_TOKENS:]
        self._stops = stops
        self._decode = decode
        self._lead: str | None = None
        self._sent_chars = 0
        self._sent_tokens = 0

    def advance(self, output: Any) -> NewText:
        """Return what is new in an output, and may be sent. Raises `EndedBadly`."""
        text = self._text(output)
        cut = self._stops.cut(text, self._sent_chars)
        end = cut.length
        if cut.stopped:
            self.reason, self.stop_string = "stop", cut.stopped
        elif output.finish_reason is not None:
            self.reason = _reason(output.finish_reason)
            # Its tokens were taken back: it is not in the text.
            said = output.stop_reason
            self.stop_string = said if isinstance(said, str) else ""
            end = len(text)
        start, self._sent_chars = self._sent_chars, max(self._sent_chars, end)
        first, self._sent_tokens = self._sent_tokens, max(self._sent_tokens, len(output.token_ids))
        logprobs = _logprobs(output, first, self._decode)
        is_last = self.reason is not None
        return NewText(text[start:end], output.token_ids[first:], logprobs, is_last)

    def _text(self, output: Any) -> str:
        text: str = output.text
        if len(output.token_ids) < self._sent_tokens:
            # A stop string's tokens were taken back; what they had added to the text was not.
            text = self._decode(output.token_ids)
        if self._lead is None:
            if not text:
                return ""
            self._lead = _lost_space(self._before, output.token_ids, self._decode)
        return self._lead + text


class TrtllmAnswer:
    """The answer to one job: a request to TensorRT-LLM for each choice, or one for all. `parsed`
    tells what the text of each choice means, if it is not all answer."""

    def __init__(
        self,
        outbox: Outbox,
        job: Job,
        prompt_tokens: int,
        choices: list[TrtllmChoice],
        parsed: Sequence[ParsedText] = (),
    ) -> None:
        self.requests: list[Any] = []
        self._outbox = outbox
        self._job = job
        self._parsed = parsed
        self._prompt_tokens = prompt_tokens
        self._choices = choices
        self._cached_tokens = 0

    @property
    def is_complete(self) -> bool:
        return all(choice.reason is not None for choice in self._choices)

    def abort(self) -> None:
        """Free what the requests hold. Those that have ended do not mind."""
        for request in self.requests:
            request.abort()

    def take(self, index: int, request: Any) -> None:
        """Send what is new in a request that streams one choice."""
        choice = self._choices[index]
        if choice.reason is not None:
            return
        self._cached_tokens = getattr(request, "cached_tokens", 0) or 0
        if not self._say(index, choice.advance(request.outputs[0])):
            return
        if choice.reason is not None and not request.finished:
            request.abort()
        if self.is_complete:
            self._done(pseudo_streamed=False)

    async def in_pieces(
        self, request: Any, first_choice: int
    ) -> AsyncIterator[tuple[int, NewText]]:
        """Wait for all of a request; then its choices, for `send`, piece by piece."""
        await request
        self._cached_tokens = getattr(request, "cached_tokens", 0) or 0
        for index, output in enumerate(request.outputs, first_choice):
            for piece in _split(self._choices[index].advance(output)):
                yield index, piece
                await asyncio.sleep(0)
        if self.is_complete:
            self._done(pseudo_streamed=True)

    def send(self, part: tuple[int, NewText]) -> None:
        """Send a piece of a choice."""
        self._say(*part)

    def _say(self, index: int, new: NewText) -> bool:
        return say(self._outbox, self._job.id, index, self._parsed, new)

    def _done(self, *, pseudo_streamed: bool) -> None:
        reasons = tuple(choice.reason for choice in self._choices if choice.reason is not None)
        self._outbox.done(
            self._job.id,
            reasons_with_calls(self._job, reasons, self._parsed),
            self._prompt_tokens,
            self._cached_tokens,
            pseudo_streamed=pseudo_streamed,
            stop_strings=tuple(choice.stop_string for choice in self._choices),
        )


def _reason(said: str) -> FinishReason:
    reason = _FINISH.get(said)
    if reason is None:
        raise EndedBadly(f"TensorRT-LLM ended it as `{said}`")
    return reason


def _split(whole: NewText) -> Iterator[NewText]:
    """Yield a finished choice in pieces of a few tokens, each with its share of the text."""
    tokens, text = len(whole.token_ids), whole.text
    begin = 0
    for first in range(0, tokens, _PIECE_TOKENS):
        last = min(first + _PIECE_TOKENS, tokens)
        end = len(text) * last // tokens
        logprobs = whole.logprobs[first:last] if whole.logprobs else None
        yield NewText(text[begin:end], whole.token_ids[first:last], logprobs, last == tokens)
        begin = end


def _lost_space(before: Sequence[int], after: Sequence[int], decode: Decode) -> str:
    """White space between two stretches of tokens, which decoding the second alone loses."""
    after = after[:_JUNCTION_TOKENS]
    joined = decode([*before, *after])[len(decode(before)) :]
    lost = joined.removesuffix(decode(after))
    return lost if lost.isspace() else ""


def _logprobs(output: Any, first: int, decode: Decode) -> tuple[TokenLogprob, ...] | None:
    """Of the tokens from `first` on, if log probabilities were asked for."""
    if not output.logprobs:
        return None
    found = zip(output.token_ids[first:], output.logprobs[first:], strict=False)
    return tuple(_logprob(token_id, chances, decode) for token_id, chances in found)


def _logprob(token_id: int, chances: Any, decode: Decode) -> TokenLogprob:
    """Releases give a number, or the likeliest tokens and the chosen one by their ids."""
    if isinstance(chances, float):
        return TokenLogprob(decode([token_id]), finite(chances))
    return TokenLogprob(
        decode([token_id]),
        finite(chances[token_id].logprob),
        tuple((decode([other]), finite(chance.logprob)) for other, chance in chances.items()),
    )
