"""The new parts of vLLM's outputs, and the meaning of their ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from contract.messages import ErrorCode, FinishReason, Job, TokenLogprob
from workers.engines.shared.chances import finite
from workers.engines.shared.parsing.pieces import NewText, ends_by_calls, say_parsed
from workers.engines.vllm.parsing.choice import ParsedChoice
from workers.outbox import Outbox

#: `vllm.v1.engine.FINISH_REASON_STRINGS` (0.32). `repetition`: vLLM cuts off what only repeats.
FINISH: Final[dict[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "repetition": "length",
}
#: These are no ends of an answer: a grammar that cannot be compiled or that no token satisfies,
#: a failure inside, or a request that vLLM gave up though ew did not ask it to.
_UNCONSTRAINED: Final = "the engine could not finish this answer"
_CONSTRAINED: Final = "the engine could not finish this answer; can its constraint be satisfied?"
#: vLLM 0.32 ends with "stop" where llguidance cannot read what was checked for xgrammar.
_NOT_BEGUN: Final = (
    "the engine said nothing, which is no JSON; does its log say that it cannot read the schema?"
)
#: The class of what is the request's own fault; releases before 0.20 have none.
_REFUSAL: Final = "VLLMClientError"


def meaning_of(error: Exception) -> tuple[ErrorCode, str]:
    """Return what it means that vLLM ended a request by an exception. From 0.33 on its engine core
    refuses in this way what it finds out late, such as a constraint that does not compile."""
    if any(each.__name__ == _REFUSAL for each in type(error).__mro__):
        return ErrorCode.INVALID_REQUEST, str(error)
    return ErrorCode.ENGINE_FAILED, "the engine failed on this job"


class VllmAnswer:
    """The answer to one job; `parsed` tells what the text of each choice means, if it is not all
    answer."""

    def __init__(
        self,
        outbox: Outbox,
        job: Job,
        prompt_tokens: int,
        parsed: Sequence[ParsedChoice] = (),
    ) -> None:
        self._outbox = outbox
        self._job = job
        self._prompt_tokens = prompt_tokens
        self._parsed = parsed
        self._reasons: dict[int, FinishReason] = {}
        self._stop_strings: dict[int, str] = {}
        self._logprobs = _by_id if job.sampling.names_tokens_by_id else _by_name

    def take(self, output: Any) -> None:
        """Send what is new in an output of vLLM's."""
        job_id = self._job.id
        for choice in output.outputs:
            logprobs = self._logprobs(choice) if choice.logprobs else None
            if not self._parsed:
                self._outbox.delta(job_id, choice.text, choice.token_ids, choice.index, logprobs)
            elif not self._say_parsed(choice, logprobs):
                return
            if choice.finish_reason is not None and not self._end(choice):
                return
        if output.finished:
            ended = sorted(self._reasons)
            self._outbox.done(
                job_id,
                tuple(self._reasons[index] for index in ended),
                self._prompt_tokens,
                output.num_cached_tokens or 0,
                stop_strings=tuple(self._stop_strings[index] for index in ended),
            )

    def say(self) -> Callable[[str, list[int]], object]:
        """Return what sends new text and tokens of an answer of one choice, which goes on."""
        if not self._parsed:
            return partial(self._outbox.delta, self._job.id)
        say_next = partial(say_parsed, self._outbox, self._job.id, 0, self._parsed[0])
        return lambda text, token_ids: say_next(NewText(text, token_ids))

    def _say_parsed(self, choice: Any, logprobs: tuple[TokenLogprob, ...] | None) -> bool:
        """Send what new text means. False if that ends the job with an error."""
        new = NewText(choice.text, choice.token_ids, logprobs, choice.finish_reason is not None)
        parsed = self._parsed[choice.index]
        return say_parsed(self._outbox, self._job.id, choice.index, parsed, new)

    def _end(self, choice: Any) -> bool:
        """Note why a choice has ended. False if that ends the job with an error."""
        reason = FINISH.get(choice.finish_reason)
        parsed = self._parsed[choice.index] if self._parsed else None
        if reason == "stop" and parsed is not None and ends_by_calls(self._job, parsed):
            reason = "tool_calls"
        if reason == "stop" and choice.stop_reason is None and self._is_no_json():
            self._outbox.give_up(self._job.id, ErrorCode.ENGINE_FAILED, _NOT_BEGUN, retryable=False)
            return False
        if reason is not None:
            self._reasons[choice.index] = reason
            # A number is the token that ended it.
            said = choice.stop_reason
            self._stop_strings[choice.index] = said if isinstance(said, str) else ""
            return True
        guided = self._job.sampling.guided
        self._outbox.give_up(
            self._job.id,
            ErrorCode.ENGINE_FAILED,
            _UNCONSTRAINED if guided is None else _CONSTRAINED,
            retryable=guided is None,
        )
        return False

    def _is_no_json(self) -> bool:
        """Whether there is no text at all where there has to be JSON."""
        guided = self._job.sampling.guided
        is_json = guided is not None and guided.kind in ("json", "json_object")
        return is_json and self._outbox.is_untold(self._job.id)


def _by_name(choice: Any) -> tuple[TokenLogprob, ...]:
    return tuple(
        TokenLogprob(
            chances[token_id].decoded_token or "",
            finite(chances[token_id].logprob),
            tuple((other.decoded_token or "", finite(other.logprob)) for other in chances.values()),
        )
        for token_id, chances in zip(choice.token_ids, choice.logprobs, strict=True)
    )


def _by_id(choice: Any) -> tuple[TokenLogprob, ...]:
    """The same, with the tokens as vLLM's server writes them if asked for their ids."""
    return tuple(
        TokenLogprob(
            f"token_id:{token_id}",
            finite(chances[token_id].logprob),
            tuple(
                (f"token_id:{other}", finite(chance.logprob)) for other, chance in chances.items()
            ),
        )
        for token_id, chances in zip(choice.token_ids, choice.logprobs, strict=True)
    )
