"""vLLM's own parsers: they tell what a model thinks, and the tools that it calls, from its text.

They run here, in the worker, because each model family has its own markup and vLLM's environment
has the code for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from types import SimpleNamespace
from typing import Any

from contract.config import ModelConfig
from contract.config.recipes import ChosenParsers
from contract.messages import ErrorCode, Job
from workers.engine import CannotServe, JobRejected
from workers.engines.prompts import template_arguments
from workers.engines.shared.parsing.known import NO_TOOL_PARSER, cannot_parse
from workers.engines.shared.parsing.replay import Reading, Replay
from workers.engines.vllm.constraints import GUIDANCE, folded_outputs
from workers.engines.vllm.parsing.asked import request_of
from workers.engines.vllm.parsing.choice import ParsedChoice
from workers.engines.vllm.parsing.known import known_parsers
from workers.engines.vllm.requests import REFUSALS


class VllmParsing:
    """How the answer to one job is read."""

    def __init__(self, job: Job, prompt_ids: list[int], outputs: Any, parsers: VllmParsers) -> None:
        self.job = job
        self.prompt_ids = prompt_ids
        self._parsers = parsers
        self._arguments = template_arguments(job)
        asked = request_of(job, self._arguments, outputs)
        self._tools = asked.tools
        parser = self.new_parser()
        #: The request as vLLM's own server would have made it.
        self.request = parser.adjust_request(asked)
        reasons = parser.reasoning_parser is not None
        arguments = {"chat_template_kwargs": self._arguments} if reasons else None
        self.engine_arguments = {
            "reasoning_ended": self.request.resolve_reasoning_ended(parser, prompt_ids),
            "reasoning_parser_kwargs": arguments,
        }

    def new_choice(self) -> ParsedChoice:
        tools = self.job.tools
        only_one = tools is not None and not tools.parallel
        return ParsedChoice(self.new_parser, self.request, self.prompt_ids, only_one_call=only_one)

    def new_parser(self) -> Any:
        return self._parsers.kind_for(self.job)(
            self._parsers.tokenizer,
            self._tools,
            chat_template_kwargs=self._arguments,
            model_config=self._parsers.model_config,
        )

    def sampling(self) -> dict[str, Any]:
        """The arguments of `SamplingParams` that the parser needs."""
        settings: dict[str, Any] = {"skip_special_tokens": self.request.skip_special_tokens}
        outputs = self.request.extract_structured_outputs()
        if outputs is None:
            return settings
        return settings | {"structured_outputs": folded_outputs(outputs)}

    @property
    def is_constrained(self) -> bool:
        """Whether a grammar rules the answer, so that it cannot go on from its middle."""
        return self.request.extract_structured_outputs() is not None

    def replay(self, emitted: Sequence[int], sent: str) -> Replay[ParsedChoice]:
        """Go on with an answer of which a client has these tokens and this transcript."""
        skips = self.request.skip_special_tokens
        reading = Reading(
            self.new_choice,
            lambda: self._parsers.detokenizer(self.prompt_ids, skips),
            lambda ids: str(self._parsers.tokenizer.decode(list(ids))),
        )
        return reading.replay(emitted, sent)


class VllmParsers:
    """The parsers that a model's entry or its checkpoint asks for. Raises `CannotServe` if vLLM has
    none of the entry's name."""

    def __init__(self, model: ModelConfig, tokenizer: Any, model_config: Any, library: str) -> None:
        self.tokenizer = tokenizer
        self.model_config = model_config
        chosen = known_parsers(model)
        self._reads_calls = chosen.tool is not None
        self._is_needed = bool(chosen.tool or chosen.reasoning)
        #: Harmony has markup in all that its models say.
        is_harmony = getattr(model_config.hf_config, "model_type", "") == "gpt_oss"
        self._always_reads = chosen.reasoning is not None or is_harmony
        try:
            self._usual = _composed(model, chosen, tokenizer, is_harmony)
            lacks_tags = library == GUIDANCE and not is_harmony and _forces_by_tags(self._usual)
            is_usual = self._reads_calls and not lacks_tags
            self._forced = self._usual if is_usual else _forced(chosen)
        except ImportError as error:
            if self._is_needed:
                message = "this vLLM has no parsers that ew knows how to use; 0.32 has"
                raise CannotServe(message) from error
            self._usual = self._forced = None
        except (TypeError, KeyError) as error:
            raise cannot_parse(error) from error

    def of(self, job: Job, prompt_ids: list[int], outputs: Any) -> VllmParsing | None:
        """How to read the answer to a job; None: it is text as it is. `outputs` is vLLM's form of
        what the job constrains the answer to, if anything. Raises `JobRejected`."""
        if job.messages is None or self.kind_for(job) is None:
            return None
        try:
            return VllmParsing(job, prompt_ids, outputs, self)
        except REFUSALS as error:
            raise JobRejected(ErrorCode.INVALID_REQUEST, str(error)) from error

    def kind_for(self, job: Job) -> Any:
        """The class of the parser, if the answer needs one. Raises `JobRejected`."""
        if job.tools is None or job.tools.choice == "none":
            return self._usual if self._always_reads else None
        if job.tools.choice == "auto" and not self._reads_calls:
            raise JobRejected(ErrorCode.INVALID_REQUEST, NO_TOOL_PARSER)
        if self._forced is None:
            raise JobRejected(ErrorCode.INVALID_REQUEST, "this engine's release takes no tools")
        return self._usual if job.tools.choice == "auto" else self._forced

    def detokenizer(self, prompt_ids: list[int], skips_special: bool) -> Any:
        """vLLM's own, which makes text of one token after the other."""
        from vllm import SamplingParams
        from vllm.v1.engine.detokenizer import IncrementalDetokenizer

        request: Any = SimpleNamespace(
            request_id="",
            prompt_token_ids=prompt_ids,
            prompt_embeds=None,
            sampling_params=SamplingParams(skip_special_tokens=skips_special),
        )
        detokenizer: Any = IncrementalDetokenizer.from_new_request(self.tokenizer, request)

        def decode(token: int) -> str:
            detokenizer.update([token], False)
            text: str = detokenizer.get_next_output_text(finished=False, delta=True)
            return text

        return decode


def _composed(model: ModelConfig, chosen: ChosenParsers, tokenizer: Any, is_harmony: bool) -> Any:
    from vllm.parser import ParserManager

    if "tokenizer" not in signature(ParserManager.get_parser).parameters:
        # vLLM 0.26 has parsers of an earlier form, which do not say what they ask of the engine.
        raise ImportError("its parsers take no tokenizer")
    return ParserManager.get_parser(
        tool_parser_name=chosen.tool,
        reasoning_parser_name=chosen.reasoning,
        enable_auto_tools=True,
        model_name=model.model_path,
        is_harmony=is_harmony,
        tokenizer=tokenizer,
    )


def _forces_by_tags(parser: Any) -> bool:
    """Whether a parser has calls that are forced be in the model's markup, by a structural tag."""
    kind = getattr(parser, "tool_parser_cls", None)
    return getattr(kind, "structural_tag_model", None) is not None


def _forced(chosen: ChosenParsers) -> Any:
    """A parser of calls that are forced, which are JSON whatever the model's own markup is."""
    from vllm.parser import DelegatingParser, ParserManager
    from vllm.tool_parsers import ToolParser

    class Forced(DelegatingParser):  # type: ignore[misc]
        reasoning_parser_cls = ParserManager.get_reasoning_parser(chosen.reasoning)
        tool_parser_cls = ToolParser

    return Forced
