"""Text completions that tell more than the answer's text: the prompt (`echo`), its log
probabilities, token ids, the usage so far; and those that are the best of several."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import orjson

from contract.messages import Delta, Done, Job, PromptDelta, PromptToken
from gateway.api.openai.chat import usage_of
from gateway.api.openai.completions import Columns, TextSoFar, TextStream, TextWhole, json_of
from gateway.api.openai.detail import Detail, PromptSoFar, TokensSoFar, ids_of
from gateway.streams import sse


class DetailedTextStream(TextStream):
    """Before a choice's own text comes a chunk with the prompt, if it is to be told. Each prompt
    has `choices` choices."""

    def __init__(
        self, job: Job, detail: Detail, *, choices: int, include_usage: bool, numbered: bool
    ) -> None:
        super().__init__(job, include_usage=include_usage, numbered=numbered)
        self._detail = detail
        self._choices = choices
        self._logprobs = job.sampling.logprobs
        self._prompt_tokens = [0] * job.sampling.n
        self._tokens = [0] * job.sampling.n
        self._usual_end = self._end

    def delta(self, seq: int, delta: Delta) -> bytes:
        if isinstance(delta, PromptDelta):
            chunks = (self._prompt(seq, delta, i) for i in range(self._choices))
            return b"".join(chunks)
        self._tokens[delta.index] += len(delta.tokens) // 4
        if not self._detail.generated:
            return b""
        ids = ids_of(delta.tokens) if self._detail.token_ids else None
        self._end_with(delta.index, {} if ids is None else {"token_ids": ids})
        return super().delta(seq, delta)

    def _prompt(self, seq: int, delta: PromptDelta, number: int) -> bytes:
        """Return the chunk with the prompt's tokens of a choice."""
        index = delta.index + number
        ids = ids_of(delta.prompt)
        self._prompt_tokens[index] += len(ids)
        more: dict[str, Any] = {}
        if self._detail.token_ids:
            more = {"prompt_token_ids": ids, "token_ids": []}
        elif not self._detail.echo:
            return b""
        # As vLLM has it: where the tokens are given, the text is not repeated.
        text = "" if self._detail.token_ids or not self._detail.echo else delta.prompt_text
        logprobs = b"null"
        if self._detail.echo and self._logprobs is not None:
            places, offset = delta.places, self._offsets[index]
            columns = prompt_columns(places, self._logprobs, offset, by_id=self._detail.by_id)
            self._offsets[index] += _length(places, by_id=self._detail.by_id)
            logprobs = json_of([columns])
        elif self._detail.echo:
            self._offsets[index] += len(text)
        self._end_with(index, more)
        before = self._befores[index]
        if self.numbered and number == 0:
            before = sse.with_id(seq, self.mark, before)
        written = sse.json_text(text)
        return b'%b%b,"logprobs":%b,"finish_reason":null%b' % (before, written, logprobs, self._end)

    def _finish(self, index: int, reason: str) -> bytes:
        self._end_with(index, {})
        return super()._finish(index, reason)

    def _end_with(self, index: int, more: dict[str, Any]) -> None:
        """Have the next chunk, of a choice, end with more fields of it, and the usage so far."""
        inside = b"," + orjson.dumps(more)[1:-1] if more else b""
        end = self._usual_end
        if self._detail.usage:
            end = b'}],"usage":%b}\n\n' % usage_so_far(
                self._prompt_tokens[index], self._tokens[index]
            )
        self._end = inside + end
        self._after = b',"logprobs":null,"finish_reason":null' + self._end


class DetailedTextSoFar(TextSoFar):
    """One choice of a whole answer; the first of each prompt has the prompt."""

    def __init__(self) -> None:
        super().__init__()
        self.prompt = PromptSoFar()
        self.tokens = TokensSoFar()
        self._count = 0
        self._sum = 0.0

    @property
    def mean_logprob(self) -> float:
        """Of its tokens; 0 without any."""
        return self._sum / self._count if self._count else 0.0

    def add(self, delta: Delta) -> None:
        if isinstance(delta, PromptDelta):
            self.prompt.add(delta)
            return
        super().add(delta)
        self.tokens.add(delta)
        for each in delta.logprobs or ():
            self._count += 1
            self._sum += each.logprob

    def logprobs_after(self, first: Sequence[Columns], offset: int) -> orjson.Fragment | None:
        """Its log probabilities after others that take `offset` characters."""
        moved = [self._moved(each, offset) for each in self._columns]
        return orjson.Fragment(json_of([*first, *moved])) if first or moved else None

    def _moved(self, columns: Columns, offset: int) -> Columns:
        offsets = orjson.loads(b"[%b]" % columns.text_offset)
        return columns._replace(text_offset=orjson.dumps([offset + each for each in offsets])[1:-1])


class DetailedTextWhole(TextWhole):
    """One JSON object; of each prompt's choices the `best` of `choices`, by the mean log
    probability of their tokens."""

    def __init__(
        self, job: Job, detail: Detail, *, choices: int, best: int, logprobs: int | None
    ) -> None:
        super().__init__(job)
        self._detail = detail
        self._choices = choices
        self._best = best
        self._logprobs = logprobs

    def new_choice(self) -> DetailedTextSoFar:
        return DetailedTextSoFar()

    def choices(self, choices: list[TextSoFar], done: Done) -> list[dict[str, Any]]:
        told = super().choices(choices, done)
        kept: list[dict[str, Any]] = []
        for first in range(0, len(choices), self._choices):
            group = range(first, first + self._choices)
            said = {i: each for i in group if isinstance(each := choices[i], DetailedTextSoFar)}
            best = sorted(said, key=lambda i: -said[i].mean_logprob)[: self._best]
            chosen = best if self._best < self._choices else group
            kept += [
                told[i] | self._more(said[i], said[first].prompt) | {"index": len(kept) + k}
                for k, i in enumerate(chosen)
            ]
        return kept

    def _more(self, choice: DetailedTextSoFar, prompt: PromptSoFar) -> dict[str, Any]:
        """The fields of a choice that differ from a plain one's."""
        detail, more = self._detail, self._echo(choice, prompt)
        if detail.prompt_logprobs:
            more["prompt_logprobs"] = prompt.logprobs()
        if detail.token_ids:
            more |= {"prompt_token_ids": prompt.ids, "token_ids": choice.tokens.ids}
        return more

    def _echo(self, choice: DetailedTextSoFar, prompt: PromptSoFar) -> dict[str, Any]:
        detail, more = self._detail, dict[str, Any]()
        if self._logprobs is None:
            more["logprobs"] = None
        if not detail.echo:
            return more
        # As vLLM has it: where the tokens are given, the text is not repeated.
        text = "" if detail.token_ids else prompt.text
        more["text"] = text + (choice.text if detail.generated else "")
        if self._logprobs is not None:
            first = [prompt_columns(prompt.places, self._logprobs, 0, by_id=detail.by_id)]
            after = choice if detail.generated else DetailedTextSoFar()
            more["logprobs"] = after.logprobs_after(
                first, _length(prompt.places, by_id=detail.by_id)
            )
        return more


def prompt_columns(
    places: Sequence[tuple[PromptToken, ...]], most: int, offset: int, *, by_id: bool
) -> Columns:
    """The log probabilities of a prompt, with `most` others at each place, from `offset` on."""

    def name(token: PromptToken) -> str:
        return _name(token, by_id=by_id)

    names = [name(place[0]) for place in places]
    columns = (
        names,
        [place[0].logprob for place in places],
        [
            None if place[0].logprob is None else {name(t): t.logprob for t in place[: most + 1]}
            for place in places
        ],
        [*accumulate(map(len, names), initial=offset)][:-1],
    )
    return Columns(*(orjson.dumps(column)[1:-1] for column in columns))


def _name(token: PromptToken, *, by_id: bool) -> str:
    return f"token_id:{token.id}" if by_id else token.text


def _length(places: Sequence[tuple[PromptToken, ...]], *, by_id: bool) -> int:
    return sum(len(_name(place[0], by_id=by_id)) for place in places)


def usage_so_far(prompt_tokens: int, tokens: int) -> bytes:
    """The JSON of what a choice has used until now."""
    return orjson.dumps(usage_of(Done((), prompt_tokens, tokens)).model_dump())
