"""The new parts of SGLang's outputs: each brings the text and tokens of a choice that are new."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from contract.messages import FinishReason, Job, TokenLogprob
from workers.engines.shared.chances import alone, finite
from workers.engines.shared.endings import EndedBadly
from workers.engines.shared.parsing.pieces import NewText, reasons_with_calls, say
from workers.engines.shared.parsing.text import ParsedText
from workers.engines.shared.stop_strings import StopStrings
from workers.outbox import Outbox

Decode = Callable[[Sequence[int]], str]

_FINISH: Final[dict[str, FinishReason]] = {"stop": "stop", "length": "length"}
_BAD_REQUEST: Final = 400


class SglangChoice:
    """One choice of an answer. `reason` is set when it has ended."""

    def __init__(self, stop: Sequence[str], decode: Decode) -> None:
        self.reason: FinishReason | None = None
        self.stop_string = ""
        self.cached_tokens = 0
        self._stops = StopStrings(stop)
        self._decode = decode
        #: The text so far, and how much of it was sent.
        self._text = ""
        self._sent = 0

    def advance(
        self, output: dict[str, Any]
    ) -> tuple[str, list[int], tuple[TokenLogprob, ...] | None]:
        """Return the text, tokens and log probabilities to send. Raises `ValueError` if the
        request is to blame for its end, and `EndedBadly`."""
        said = output["meta_info"]
        self.cached_tokens = said.get("cached_tokens", 0)
        finish = said["finish_reason"]
        if finish is not None:
            reason = _reason(finish)
        self._text += output["text"] or ""
        cut = self._stops.cut(self._text, self._sent)
        end = cut.length
        if finish is not None:
            # At the last token that it may have, SGLang looks no more for a stop string.
            self.reason, self.stop_string = "stop" if cut.stopped else reason, cut.stopped
            end = end if cut.stopped else len(self._text)
        start, self._sent = self._sent, max(self._sent, end)
        return self._text[start:end], output["output_ids"], self._logprobs(said)

    def _logprobs(self, said: dict[str, Any]) -> tuple[TokenLogprob, ...] | None:
        chosen = said.get("output_token_logprobs")
        if chosen is None:
            return None
        others = said.get("output_top_logprobs") or [None] * len(chosen)
        return tuple(
            self._logprob(self._decode([token]), finite(chance), top)
            for (chance, token, _), top in zip(chosen, others, strict=False)
        )

    def _logprob(self, token: str, chance: float, top: Any) -> TokenLogprob:
        if not top:
            return alone(token, chance)
        others = ((self._decode([other]), finite(chance)) for chance, other, _ in top)
        return TokenLogprob(token, chance, tuple(others))


class SglangAnswer:
    """The answer to one job. `parsed` tells what the text of each choice means, if it is not all
    answer."""

    def __init__(
        self,
        outbox: Outbox,
        job: Job,
        prompt_tokens: int,
        choices: list[SglangChoice],
        parsed: Sequence[ParsedText] = (),
    ) -> None:
        self._outbox = outbox
        self._job = job
        self._prompt_tokens = prompt_tokens
        self._choices = choices
        self._parsed = parsed

    @property
    def is_complete(self) -> bool:
        return all(choice.reason is not None for choice in self._choices)

    def take(self, index: int, output: dict[str, Any]) -> None:
        """Send what is new in an output of one choice."""
        choice = self._choices[index]
        text, token_ids, logprobs = choice.advance(output)
        new = NewText(text, token_ids, logprobs, choice.reason is not None)
        if not say(self._outbox, self._job.id, index, self._parsed, new):
            return
        if self.is_complete:
            reasons = tuple(each.reason for each in self._choices if each.reason is not None)
            cached = max(choice.cached_tokens for choice in self._choices)
            stops = tuple(choice.stop_string for choice in self._choices)
            self._outbox.done(
                self._job.id,
                reasons_with_calls(self._job, reasons, self._parsed),
                self._prompt_tokens,
                cached,
                stop_strings=stops,
            )


def _reason(finish: dict[str, Any]) -> FinishReason:
    """Of an end as SGLang tells it: `{"type": "abort", "status_code": 400, "message": ...}`."""
    reason = _FINISH.get(finish["type"])
    if reason is not None:
        return reason
    if finish.get("status_code") == _BAD_REQUEST:
        raise ValueError(finish.get("message") or "SGLang refused the request")
    raise EndedBadly(f"SGLang ended it as {finish}")
