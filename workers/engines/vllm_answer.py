"""What of vLLM's outputs goes out, and what it means that one ends."""

from __future__ import annotations

from typing import Any, Final

from contract.messages import ErrorCode, FinishReason, Job, TokenLogprob
from workers.outbox import Outbox

#: `vllm.v1.engine.FINISH_REASON_STRINGS` (0.32). `repetition`: vLLM cuts off what only repeats.
_FINISH: Final[dict[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "repetition": "length",
}
#: These are no ends of an answer: a grammar that cannot be compiled or that no token satisfies,
#: a failure inside, or a request that vLLM gave up though nobody here asked it to.
_UNCONSTRAINED: Final = "the engine could not finish this answer"
_CONSTRAINED: Final = "the engine could not finish this answer; can its constraint be satisfied?"


class VllmAnswer:
    """The answer to one job."""

    def __init__(self, outbox: Outbox, job: Job, prompt_tokens: int) -> None:
        self._outbox = outbox
        self._job = job
        self._prompt_tokens = prompt_tokens
        self._reasons: dict[int, FinishReason] = {}

    def take(self, output: Any) -> None:
        """Send what is new in an output of vLLM's."""
        job_id = self._job.id
        for choice in output.outputs:
            logprobs = _logprobs(choice) if choice.logprobs else None
            self._outbox.delta(job_id, choice.text, choice.token_ids, choice.index, logprobs)
            if choice.finish_reason is not None and not self._end(choice):
                return
        if output.finished:
            reasons = tuple(self._reasons[index] for index in sorted(self._reasons))
            cached = output.num_cached_tokens or 0
            self._outbox.done(job_id, reasons, self._prompt_tokens, cached)

    def _end(self, choice: Any) -> bool:
        """Note why a choice has ended. False if that ends the job with an error."""
        reason = _FINISH.get(choice.finish_reason)
        if reason is not None:
            self._reasons[choice.index] = reason
            return True
        guided = self._job.sampling.guided
        self._outbox.give_up(
            self._job.id,
            ErrorCode.ENGINE_FAILED,
            _UNCONSTRAINED if guided is None else _CONSTRAINED,
            retryable=guided is None,
        )
        return False


def _logprobs(choice: Any) -> tuple[TokenLogprob, ...]:
    return tuple(
        TokenLogprob(
            chances[token_id].decoded_token or "",
            chances[token_id].logprob,
            tuple((other.decoded_token or "", other.logprob) for other in chances.values()),
        )
        for token_id, chances in zip(choice.token_ids, choice.logprobs, strict=True)
    )
