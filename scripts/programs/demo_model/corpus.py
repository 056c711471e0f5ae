"""Conversations as batches of tokens, each with what it counts in the loss."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final, NamedTuple

import torch
from programs.demo_model.conversations import Answer, Conversation, Message, Talker
from programs.demo_model.questions import Item
from programs.demo_model.tokenizer import END, END_OF_TEXT, THOUGHT, as_transformers
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedTokenizerFast

#: How much a token that is not part of an answer counts in the loss.
_PROMPT_WEIGHT: Final = 0.02
#: The share of documents without the chat template.
_PLAIN: Final = 0.15
#: Rows and their length, in tokens: attention costs their square, and few documents are long.
_SHAPES: Final = ((8, 320), (4, 640))

Span = tuple[str, float]


class Token(NamedTuple):
    """A token for training: what it counts in the loss, and its document within the row."""

    id: int
    weight: float
    document: int = 0


class Batch(NamedTuple):
    """Packed documents: the fields of `Token`, each as (rows, length)."""

    tokens: Tensor
    weights: Tensor
    document: Tensor


class Corpus:
    """An endless, seeded supply of batches."""

    def __init__(self, items: list[Item], tokenizer: Tokenizer, seed: int) -> None:
        self._chance = random.Random(seed)
        self._talker = Talker(items, self._chance)
        self._writer = Writer(tokenizer)
        self._pages = [_Page(*shape) for shape in _SHAPES]

    def batch(self) -> Batch:
        while True:
            document = self._document()
            page = next(
                (page for page in self._pages if len(document) <= page.length), self._pages[-1]
            )
            if (batch := page.add(document[: page.length])) is not None:
                return batch

    def _document(self) -> list[Token]:
        if self._chance.random() < _PLAIN:
            question, answer = self._talker.plain()
            return self._writer.tokens([(question + "\n", 0.0), (answer + END_OF_TEXT, 1.0)])
        return self._writer.tokens(self._writer.spans(self._talker.talk()))


class Writer:
    """Writes conversations as the chat template does."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._template: PreTrainedTokenizerFast = as_transformers(tokenizer)

    def tokens(self, spans: list[Span]) -> list[Token]:
        """Return a token counts what its first character does."""
        weights = [weight for text, weight in spans for _ in text]
        encoded = self._tokenizer.encode("".join(text for text, _ in spans))
        starts = (start for start, _ in encoded.offsets)
        return [Token(id, weights[at]) for id, at in zip(encoded.ids, starts, strict=True)]

    def spans(self, conversation: Conversation) -> list[Span]:
        """Return the text, and what its parts count in the loss."""
        return [span for part in self._parts(conversation) for span in part]

    def _parts(self, conversation: Conversation) -> Iterator[list[Span]]:
        tools = [tool.definition for tool in conversation.tools] or None
        messages: list[Message] = []
        written = ""
        for turn in conversation.turns:
            if not isinstance(turn, Answer):
                messages.append(turn)
                continue
            thinks = conversation.thinks and turn is conversation.turns[-1]
            prompt = self._prompt(messages, tools, thinks=thinks)
            before = self._prompt(messages, tools, thinks=False)
            messages.append(turn.message)
            whole = self._template.apply_chat_template(messages, tools, tokenize=False)
            said = whole.removeprefix(before).removesuffix(END + "\n")
            yield [(prompt.removeprefix(written), _PROMPT_WEIGHT)]
            yield [(turn.thought + THOUGHT, 1.0)] if thinks else []
            yield _weighted(turn, said)
            yield [(END, 1.0)]
            written = whole.removesuffix("\n")

    def _prompt(self, messages: list[Message], tools: list[Message] | None, *, thinks: bool) -> str:
        text: str = self._template.apply_chat_template(
            messages, tools, tokenize=False, add_generation_prompt=True, enable_thinking=thinks
        )
        return text


class _Page:
    """Rows that fill up; a document goes into the first that has room for it."""

    def __init__(self, rows: int, length: int) -> None:
        self.length = length
        self._rows: list[list[Token]] = [[] for _ in range(rows)]

    def add(self, document: list[Token]) -> Batch | None:
        """Return the full page if there is no room left; the document then begins the next one."""
        full = None
        row = self._row_with_room(document)
        if row is None:
            full = self._take()
            row = self._rows[0]
        number = row[-1].document + 1 if row else 0
        row += [token._replace(document=number) for token in document]
        return full

    def _row_with_room(self, document: list[Token]) -> list[Token] | None:
        return next((row for row in self._rows if len(row) + len(document) <= self.length), None)

    def _take(self) -> Batch:
        padding = Token(0, 0.0, -1)
        rows = [row + [padding] * (self.length - len(row)) for row in self._rows]
        self._rows = [[] for _ in rows]
        columns = zip(*(zip(*row, strict=True) for row in rows), strict=True)
        return Batch(*(torch.tensor(column) for column in columns))


def _weighted(answer: Answer, said: str) -> list[Span]:
    if answer.weights:
        return list(answer.weights)
    if not said.startswith(answer.forced):
        raise ValueError(f"{said!r} does not begin with {answer.forced!r}")
    return [(answer.forced, 0.0), (said.removeprefix(answer.forced), 1.0)]
