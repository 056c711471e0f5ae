"""Chat completions that tell more than the answer: the prompt's log probabilities, token ids, the
usage so far, or the last message before the answer (`echo`)."""

from __future__ import annotations

from typing import Any

import orjson

from contract.messages import Delta, Done, Job, PromptDelta
from gateway.api.openai.chat import ChatSoFar, ChatStream, ChatWhole
from gateway.api.openai.chat_form import ChatForm
from gateway.api.openai.detail import Detail, PromptSoFar, TokensSoFar, ids_of
from gateway.api.openai.detailed_completions import usage_so_far
from gateway.streams import sse


class DetailedChatStream(ChatStream):
    """The role comes when the prompt has been told."""

    def __init__(
        self,
        job: Job,
        detail: Detail,
        *,
        include_usage: bool,
        numbered: bool,
        form: ChatForm,
    ) -> None:
        super().__init__(job, include_usage=include_usage, numbered=numbered, form=form)
        self._detail = detail
        self._prompt_tokens = 0
        self._tokens = [0] * job.sampling.n
        self._usual_end = self._end
        self._has_opened = False

    def opening(self) -> bytes:
        return b"" if self._detail.report(None) else self._open()

    def delta(self, seq: int, delta: Delta) -> bytes:
        if isinstance(delta, PromptDelta):
            return self._prompt(delta)
        self._tokens[delta.index] += len(delta.tokens) // 4
        self._end = self._ending(delta)
        self._after = b'},"logprobs":null,"finish_reason":null' + self._end
        return super().delta(seq, delta)

    def _prompt(self, delta: PromptDelta) -> bytes:
        ids = ids_of(delta.prompt)
        self._prompt_tokens += len(ids)
        if self._detail.token_ids:
            self._chunk["prompt_token_ids"] = ids
        chunks = b"" if self._has_opened else self._open()
        self._chunk.pop("prompt_token_ids", None)
        return chunks

    def _open(self) -> bytes:
        self._has_opened = True
        chunks = [super().opening()]
        if self._detail.last_message:
            said = {"content": self._detail.last_message}
            chunks += [self._choice(i, said) for i in range(len(self._tokens))]
        return b"".join(chunks)

    def _ending(self, delta: Delta) -> bytes:
        ids = b""
        if self._detail.token_ids:
            ids = b',"token_ids":%b' % orjson.dumps(ids_of(delta.tokens))
        if not self._detail.usage:
            return ids + self._usual_end
        usage = usage_so_far(self._prompt_tokens, self._tokens[delta.index])
        return b'%b}],"usage":%b}\n\n' % (ids, usage)

    def _choice(self, index: int, delta: dict[str, str], finish_reason: str | None = None) -> bytes:
        if not self._detail.usage:
            return super()._choice(index, delta, finish_reason)
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        usage = orjson.Fragment(usage_so_far(self._prompt_tokens, self._tokens[index]))
        return sse.event(orjson.dumps({**self._chunk, "choices": [choice], "usage": usage}))


class DetailedChatSoFar(ChatSoFar):
    """One choice of a whole answer; the first has the prompt."""

    def __init__(self, with_others: bool, form: ChatForm) -> None:
        super().__init__(with_others, form)
        self.prompt = PromptSoFar()
        self.tokens = TokensSoFar()

    def add(self, delta: Delta) -> None:
        if isinstance(delta, PromptDelta):
            self.prompt.add(delta)
        else:
            super().add(delta)
            self.tokens.add(delta)


class DetailedChatWhole(ChatWhole):
    """One JSON object, a `ChatCompletion`."""

    def __init__(self, job: Job, detail: Detail, *, form: ChatForm, prompts: int = 1) -> None:
        super().__init__(job, form=form)
        self._detail = detail
        self._prompts = prompts

    def new_choice(self) -> DetailedChatSoFar:
        return DetailedChatSoFar(self._with_others, self._form)

    def completion(self, choices: list[ChatSoFar], done: Done) -> dict[str, Any]:
        whole, detail = super().completion(choices, done), self._detail
        said = [each for each in choices if isinstance(each, DetailedChatSoFar)]
        for choice, told in zip(said, whole["choices"], strict=True):
            if detail.token_ids:
                told["token_ids"] = choice.tokens.ids
            if detail.last_message:
                message = told["message"]
                message["content"] = detail.last_message + (message["content"] or "")
        if detail.prompt_logprobs:
            whole["prompt_logprobs"] = said[0].prompt.logprobs()
        if detail.token_ids and self._prompts == 1:
            whole["prompt_token_ids"] = said[0].prompt.ids
        return whole
