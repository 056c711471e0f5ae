"""The short way of usual answers: from what vLLM's engine core says to the outbox.

vLLM makes two objects of every new token, with all that a request could have asked for, and counts
statistics; here they would be taken apart again. For an answer of one choice whose text vLLM does
not look at, nothing is needed but the token's text. Its first output and its last take vLLM's own
way, as do all outputs of other answers: what begins, ends and cancels a request is vLLM's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from contract.messages import Job
from workers.engines.vllm.known_sources import Read, own_way, why_unknown
from workers.outbox import Outbox

#: The functions in whose place it does what is needed of them.
READ: Final[Read] = {
    "OutputProcessor.process_outputs": {
        "0.26.0": "23ef4fe6fdb9ac57",
        "0.32.0": "9e116796002e75f2",
        "0.33.0": "06811284749d457d",
    },
    "BaseIncrementalDetokenizer.update": {
        "0.26.0": "a93d31a1ef904ecd",
        "0.32.0": "ab88e88b47aeb0cc",
        "0.33.0": "ab88e88b47aeb0cc",
    },
    "BaseIncrementalDetokenizer.get_next_output_text": {
        "0.26.0": "c16f4e94cbed8489",
        "0.32.0": "426afb10c034a31b",
        "0.33.0": "426afb10c034a31b",
    },
}


_PREEMPTED: Final = "PREEMPTED"
_TOKENS: Final = "tokens"
#: Sends new text of an answer, and its tokens.
Say = Callable[[str, list[int]], object]


class Shortcut:
    """Stands in for `process_outputs` of an `OutputProcessor`, once `install`ed."""

    def __init__(self, processor: Any, outbox: Outbox) -> None:
        self._outbox = outbox
        self._states: dict[str, Any] = processor.request_states
        self._own_way: Callable[..., Any] = processor.process_outputs
        self._counts = bool(processor.tracing_enabled)
        #: By job, until it ends: of those whose answers take the short way.
        self._says: dict[str, Say] = {}
        self._added = self._missed = 0

    def add(self, job_id: str, say: Say) -> None:
        """Send what is new of an answer by `say`."""
        self._says[job_id] = say
        self._added += 1

    def discard(self, job_id: str) -> None:
        """An answer has ended, or is not waited for any more."""
        self._says.pop(job_id, None)

    def miss(self, job_id: str) -> None:
        """An output of an answer that goes on came by vLLM's own way. The first of each does."""
        if job_id not in self._says:
            return
        self._missed += 1
        if self._missed > self._added and not self._outbox.remark:
            why = "this release does not ask for the short way"
            self._outbox.remark = own_way(_TOKENS, why)

    def process_outputs(
        self,
        engine_core_outputs: list[Any],
        engine_core_timestamp: float | None = None,
        iteration_stats: Any = None,
        **more: Any,
    ) -> Any:
        """As vLLM calls it. Statistics of requests are for traces alone, but for preemptions. The
        version of the weights, which 0.33 says with all outputs, is for reports that ew does not
        ask for."""
        if not self._counts and iteration_stats is not None:
            iteration_stats.num_preempted_reqs += sum(
                any(event.type.name == _PREEMPTED for event in each.events)
                for each in engine_core_outputs
                if each.events
            )
        outputs = [each for each in engine_core_outputs if not self._take(each)]
        stats = iteration_stats if self._counts else None
        return self._own_way(outputs, engine_core_timestamp, stats, **more)

    def _take(self, output: Any) -> bool:
        """Pass new text on. False for what has to go vLLM's own way."""
        state = self._states.get(output.request_id)
        if state is None or state.is_prefilling or output.finish_reason is not None:
            return False
        say = self._says.get(state.external_req_id)
        if say is None or output.routed_experts is not None:
            return False
        detokenizer, text = state.detokenizer, ""
        token_ids, decode = detokenizer.token_ids, detokenizer.decode_next
        for token_id in output.new_token_ids:
            token_ids.append(token_id)
            text += decode(token_id)
        say(text, output.new_token_ids)
        return True


def is_usual(job: Job) -> bool:
    """Whether vLLM need not look at the text of an answer. It finds stop strings, and reports the
    chances of tokens; what the text means is found out here."""
    asked = job.sampling
    return not (asked.n > 1 or asked.stop or asked.logprobs is not None)


def remark_on(found: Shortcut | str) -> str:
    """Return a remark for the operator on why answers cannot take the short way; empty if they
    do."""
    return "" if isinstance(found, Shortcut) else own_way(_TOKENS, found)


def install(engine: Any, outbox: Outbox) -> Shortcut | str:
    """Take the short way in an `AsyncLLM`; or why that cannot be."""
    try:
        from vllm.v1.engine import detokenizer, output_processor
    except ImportError as error:
        return str(error)
    processor = engine.output_processor
    if processor.stream_interval != 1:
        return f"stream_interval is {processor.stream_interval}"
    if why := why_unknown(READ, detokenizer, output_processor):
        return why
    shortcut = Shortcut(processor, outbox)
    processor.process_outputs = shortcut.process_outputs
    return shortcut
