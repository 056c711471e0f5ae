"""Prompts as token ids, by the model's own tokenizer and chat template."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from contract.asked import Template, ToolCall
from contract.messages import ChatMessage, ErrorCode, Job
from workers.engine import JobRejected
from workers.engines.shared.content_parts import content_parts
from workers.engines.shared.encoding import (
    ReadAhead,
    batch_encoder,
    direct_encoder,
    encodes_what_it_writes,
)

#: Longer prompts are tokenised in a thread, so that they do not hold up the tokens of others.
_LONG_PROMPT_CHARS: Final = 4_000
_IN_CODE: Final = "in code"
#: -1 stands for the most that there may be.
_NO_BOUND: Final = 2**31


Turns = list[dict[str, Any]]
#: Writes a chat as token ids, given its turns and the arguments of the chat template, and whether
#: the tokenizer adds its own tokens to what that has written.
ChatWriter = Callable[[Turns, dict[str, Any], bool], list[int]]
#: Writes a prompt for the gap between two texts; None if the model is not made for that.
SuffixWriter = Callable[[str, str], str | None]


class Prompts:
    """Tokenises jobs; the tokenizer is a Hugging Face one, or speaks as one does. `write_chat` is
    the engine's own way to write a chat, for models that have no template, `write_suffix` that to
    ask for what is missing in a text."""

    def __init__(
        self,
        tokenizer: Any,
        max_input_len: int,
        max_model_len: int,
        write_chat: ChatWriter | None = None,
        write_suffix: SuffixWriter | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._write_suffix = write_suffix
        self._write_chat = write_chat or self._apply_template
        self._max_tokens = min(max_input_len, max_model_len - 1)
        self._encode_text = encode = direct_encoder(tokenizer)
        self._encode_chat = (
            encode if encode is not None and encodes_what_it_writes(tokenizer, encode) else None
        )
        encode_all = batch_encoder(tokenizer, encode) if encode is not None else None
        self._ahead = ReadAhead(encode_all) if encode_all is not None else None

    def read_ahead(self, jobs: Sequence[Job]) -> None:
        """Encode the prompts together of jobs that will be asked for next."""
        if self._ahead is not None:
            self._ahead.read(jobs)

    async def token_ids(self, job: Job) -> list[int]:
        """The prompt of a job. Raises `JobRejected` if it is too long, or cannot be rendered."""
        chars = len(job.prompt or "") + sum(len(m.content) for m in job.messages or ())
        if chars > _LONG_PROMPT_CHARS:
            ids = await asyncio.to_thread(self._encode, job)
        else:
            ids = self._encode(job)
        if job.truncate_prompt_tokens is not None:
            most = min(job.truncate_prompt_tokens % _NO_BOUND, self._max_tokens)
            ids = ids[:most] if job.keeps_beginning else ids[-most:]
        self.check_length(job, ids)
        return ids

    def check_length(self, job: Job, ids: Sequence[int]) -> None:
        """Raises `JobRejected` for a prompt that is too long, or that may not be so long."""
        if job.report is not None and job.report.only:
            return
        most = min((job.truncate_prompt_tokens or -1) % _NO_BOUND, self._max_tokens)
        if len(ids) > most:
            message = f"the prompt has {len(ids)} tokens; this model takes {most}"
            raise JobRejected(ErrorCode.PROMPT_TOO_LONG, message)
        if not ids:
            raise JobRejected(ErrorCode.INVALID_REQUEST, "the prompt is empty")

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of tokens, without special ones unless they are asked for."""
        text: str = self._tokenizer.decode(token_ids, skip_special_tokens=skip_special_tokens)
        return text

    def decode_one(self, token_id: int) -> str:
        """The text of one token, also of a special one."""
        return self.decode([token_id], skip_special_tokens=False)

    def is_special(self, mark: str) -> bool:
        """Whether a text is left out where special tokens are."""
        ids = self._tokenizer.encode(mark, add_special_tokens=False)
        return mark not in self.decode(ids)

    def names_of(self, token_ids: list[int]) -> list[str]:
        """Return the names of tokens in the vocabulary."""
        names: list[str] = self._tokenizer.convert_ids_to_tokens(token_ids)
        return names

    def text_of(self, job: Job, prompt_ids: list[int]) -> str:
        """The text of a prompt that is no chat."""
        if job.messages is not None:
            return ""
        if job.prompt is not None:
            return job.prompt
        return self.decode(prompt_ids, skip_special_tokens=False)

    def _encode(self, job: Job) -> list[int]:
        if job.prompt_ids is not None:
            return list(job.prompt_ids)
        if job.messages is None:
            text, special = self._with_suffix(job), job.add_special_tokens
            if self._encode_text is not None:
                known = self._ahead.take(text, special is not False) if self._ahead else None
                return self._encode_text(text, special is not False) if known is None else known
            given = {} if special is None else {"add_special_tokens": special}
            ids: list[int] = self._tokenizer.encode(text, **given)
            return ids
        adds_special = bool(job.add_special_tokens)
        return self._render(*chats_of(job), template_arguments(job), adds_special)

    def _with_suffix(self, job: Job) -> str:
        prompt = job.prompt or ""
        if job.suffix is None:
            return prompt
        written = self._write_suffix(prompt, job.suffix) if self._write_suffix else None
        if written is None:
            message = "`suffix`: this model is not served as one that fills gaps in a text"
            raise JobRejected(ErrorCode.INVALID_REQUEST, message)
        return written

    def _render(
        self, turns: Turns, moved: Turns, arguments: dict[str, Any], adds_special: bool
    ) -> list[int]:
        """Write a chat. If the template refuses it, write `moved` instead, if that is another."""
        try:
            return self._write_chat(turns, arguments, adds_special)
        except JobRejected:
            raise
        # Templates are programs of the model's authors: they raise what they like.
        except Exception as error:
            if moved and moved != turns:
                return self._render(moved, [], arguments, adds_special)
            message = f"the model's chat template refused the messages: {error}"
            raise JobRejected(ErrorCode.INVALID_REQUEST, message) from error

    def _apply_template(
        self, turns: Turns, arguments: dict[str, Any], adds_special: bool
    ) -> list[int]:
        # A tokenizer without such a thing (mistral_common's) writes chats in code.
        template = getattr(self._tokenizer, "chat_template", _IN_CODE)
        if not template:
            message = "this model has no chat template; send a plain prompt"
            raise JobRejected(ErrorCode.INVALID_REQUEST, message)
        if not _names_developers(template):
            turns = _with_system_for_developer(turns)
        encode = self._encode_chat
        in_one = encode is None and not adds_special
        written: Any = self._tokenizer.apply_chat_template(
            turns, **arguments, tokenize=in_one, return_dict=False
        )
        if encode is not None:
            return encode(written, adds_special)
        if adds_special:
            written = self._tokenizer.encode(written, add_special_tokens=True)
        ids: list[int] = written
        return ids


def chats_of(job: Job) -> tuple[Turns, Turns]:
    """A job's messages as templates know them; and what to write if the template refuses them, if
    anything else."""
    turns = [_turn(message) for message in job.messages or ()]
    may_move = job.template is not None and job.template.system_first
    return turns, _with_first(turns, ("system",)) if may_move else []


def template_arguments(job: Job) -> dict[str, Any]:
    """Return the variables of a job's chat template beside its messages."""
    template = job.template or Template()
    arguments: dict[str, Any] = json.loads(template.arguments) if template.arguments else {}
    arguments["add_generation_prompt"] = template.add_generation_prompt
    if template.continue_final_message:
        arguments["continue_final_message"] = True
    if job.tools is not None:
        arguments["tools"] = json.loads(job.tools.definitions)
    return arguments


def _turn(message: ChatMessage) -> dict[str, Any]:
    """A message as templates know it: the arguments of calls are objects there."""
    turn: dict[str, Any] = {"role": message.role, "content": content_parts(message)}
    if message.name is not None:
        turn["name"] = message.name
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    if message.reasoning is not None:
        turn |= {"reasoning": message.reasoning, "reasoning_content": message.reasoning}
    if message.tool_calls:
        turn["tool_calls"] = [_called(call) for call in message.tool_calls]
    return turn


def _called(call: ToolCall) -> dict[str, Any]:
    """Arguments that the model wrote wrong are none: they stay in the conversation for good, which
    would be refused for ever."""
    try:
        arguments = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        arguments = {}
    function = {"name": call.name, "arguments": arguments if isinstance(arguments, dict) else {}}
    return {"id": call.id, "type": "function", "function": function}


def _names_developers(template: Any) -> bool:
    """Whether a template, or one of several by name, knows the role."""
    texts = template.values() if isinstance(template, dict) else [template]
    return any("'developer'" in str(text) or '"developer"' in str(text) for text in texts)


def _with_system_for_developer(turns: Turns) -> Turns:
    """The words of developers as those of the system. As vLLM does it (0.32)."""
    if all(turn["role"] != "developer" for turn in turns):
        return turns
    return _with_first(turns, ("system", "developer"))


def _with_first(turns: Turns, roles: Sequence[str]) -> Turns:
    """Return the conversation with the messages of these roles as one system message at its
    beginning: templates may want the system only there."""
    said = [turn["content"] for turn in turns if turn["role"] in roles and turn["content"]]
    rest = [turn for turn in turns if turn["role"] not in roles]
    return [{"role": "system", "content": "\n\n".join(said)}, *rest] if said else rest


def choices_of(value: str) -> list[str]:
    """The choices of a `Guided` of kind `choice`."""
    choices: list[str] = json.loads(value)
    return choices
