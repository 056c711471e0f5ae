"""Which parsers of its library read the answer to a job, and what constrains it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any, Final, Protocol

import msgspec

from contract.asked import Guided
from contract.config.recipes import ChosenParsers
from contract.messages import ErrorCode, Job, Sampling
from workers.answers.continuation import forces_calls
from workers.engine import JobRejected
from workers.engines.prompts import Prompts, template_arguments
from workers.engines.shared.parsing.forced import forcing, reader_of
from workers.engines.shared.parsing.known import NO_TOOL_PARSER
from workers.engines.shared.parsing.replay import Reading, Replay, token_decoder
from workers.engines.shared.parsing.text import CallReader, ParsedText, ThoughtReader

#: A prompt that ends with the mark of a thought has at most so many tokens after it begins.
_TAIL_TOKENS: Final = 32


class ParserLibrary(Protocol):
    """The parsers of one library, as a model's entry or its checkpoint chooses them."""

    #: The marks that a thought begins and ends with; empty where there is no such parser.
    thought_marks: tuple[str, str]
    #: Whether text that calls are found in has to have its special tokens.
    keeps_special_for_calls: bool
    #: Whether a constraint waits for the end of a thought that the prompt has begun.
    thinks_before_constraint: bool

    def thoughts(self, arguments: dict[str, Any], *, begun: bool | None) -> ThoughtReader:
        """Return what tells what the model thinks, given the arguments of its chat template;
        `begun`: the prompt ends within a thought, or after one; None if it does neither."""

    def calls(self, definitions: str) -> CallReader:
        """Return what finds calls of these tools. Raises `ValueError` if it cannot take them."""

    def strict(self, definitions: str, *, parallel: bool) -> Guided | None:
        """Return what holds calls of the model's choice to the schemas of `strict` tools."""


class TextParsers:
    """The parsers of a model. `end_ids` are the tokens that end its answers."""

    def __init__(
        self,
        chosen: ChosenParsers,
        library: ParserLibrary,
        prompts: Prompts,
        end_ids: Collection[int],
    ) -> None:
        self.chosen = chosen
        self.library = library
        self.prompts = prompts
        self.ends = tuple(prompts.decode_one(token) for token in end_ids)

    def of(self, job: Job, prompt_ids: list[int]) -> TextParsing | None:
        """Return how to read the answer to a job; None: it is text as it is. Raises
        `JobRejected`."""
        if job.messages is None:
            return None
        calls = job.tools is not None and job.tools.choice != "none"
        if calls and not forces_calls(job) and self.chosen.tool is None:
            raise JobRejected(ErrorCode.INVALID_REQUEST, NO_TOOL_PARSER)
        if not calls and self.chosen.reasoning is None:
            return None
        try:
            return TextParsing(job, prompt_ids, self)
        except ValueError as error:
            raise JobRejected(ErrorCode.INVALID_REQUEST, str(error)) from error


class TextParsing:
    """How the answer to one job is read. A constraint rules an answer from its first token on,
    unless the library has it wait for the end of a thought."""

    def __init__(self, job: Job, prompt_ids: list[int], parsers: TextParsers) -> None:
        self._library, self._parsers = parsers.library, parsers
        self._tools = job.tools if job.tools and job.tools.choice != "none" else None
        self._forces = self._tools is not None and forces_calls(job)
        self._arguments = template_arguments(job)
        self.guided = self._constraint(job)
        begun = self._has_begun(job, prompt_ids) if parsers.chosen.reasoning else None
        waits = begun is True and self._library.thinks_before_constraint
        rules = self._forces or job.sampling.guided is not None
        self._begun = begun
        self._reads_thoughts = parsers.chosen.reasoning is not None and (waits or not rules)
        #: Whether the library is to let the model end its thought before the constraint holds.
        self.thinks_first = waits and self.guided is not None
        self.skips_special = not self._keeps_special()
        self._decode = partial(parsers.prompts.decode, skip_special_tokens=self.skips_special)
        # The library refuses now what it does not take.
        self.new_choice()

    @property
    def is_constrained(self) -> bool:
        """Whether a grammar rules the answer, so that it cannot go on from its middle."""
        return self.guided is not None

    def sampling(self, asked: Sampling) -> Sampling:
        """Return how to choose tokens, with the constraint."""
        return msgspec.structs.replace(asked, guided=self.guided)

    def new_choice(self) -> ParsedText:
        """Return a reader of a choice. Raises `ValueError` if the library cannot take the tools."""
        tools, library = self._tools, self._library
        thoughts = calls = None
        if self._reads_thoughts:
            thoughts = library.thoughts(self._arguments, begun=self._begun)
        if tools is not None:
            calls = reader_of(tools) if self._forces else library.calls(tools.definitions)
        return ParsedText(
            thoughts,
            calls,
            decode_one=self._parsers.prompts.decode_one,
            only_one_call=tools is not None and not tools.parallel,
            ends=() if self.skips_special else self._parsers.ends,
        )

    def replay(self, emitted: Sequence[int], sent: str) -> Replay[ParsedText]:
        """Go on with an answer of which a client has these tokens and this transcript."""
        reading = Reading(self.new_choice, lambda: token_decoder(self._decode), self._decode)
        return reading.replay(emitted, sent)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of tokens, as the parsers are to have it."""
        return self._decode(token_ids)

    def _constraint(self, job: Job) -> Guided | None:
        tools = self._tools
        if tools is not None and self._forces:
            return forcing(tools)
        if tools is not None and job.sampling.guided is None:
            return self._library.strict(tools.definitions, parallel=tools.parallel)
        return job.sampling.guided

    def _has_begun(self, job: Job, prompt_ids: list[int]) -> bool | None:
        """Return whether the prompt ends within a thought; False: after one; None: neither is
        said."""
        begin, end = self._library.thought_marks
        if job.template is not None and job.template.continue_final_message:
            last = job.messages[-1].content if job.messages else ""
            opened, closed = last.rfind(begin), last.rfind(end)
            return None if opened == closed else opened > closed
        prompts = self._parsers.prompts
        tail = prompts.decode(prompt_ids[-_TAIL_TOKENS:], skip_special_tokens=False).rstrip()
        if begin and tail.endswith(begin):
            return True
        return False if begin and tail.endswith(end) else None

    def _keeps_special(self) -> bool:
        """Whether there are special tokens that the parsers have to see."""
        if self._tools is not None and not self._forces and self._library.keeps_special_for_calls:
            return True
        marks = self._library.thought_marks if self._reads_thoughts else ()
        return any(self._parsers.prompts.is_special(mark) for mark in marks if mark)
