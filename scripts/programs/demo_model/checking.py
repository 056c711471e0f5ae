"""Whether a model has learnt what it was taught."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import torch
from programs.demo_model.conversations import Conversation
from programs.demo_model.corpus import Writer
from programs.demo_model.exercises import exercises
from programs.demo_model.questions import Item
from programs.demo_model.tokenizer import END, END_OF_TEXT
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

#: The right token must lead every other by this much (in logits) at each step of an answer: to all
#: questions in a chat, and to this share of them as plain text.
_LEAST_MARGIN: Final = 0.5
_LEAST_PLAIN: Final = 0.99
#: The share of conversations with tools that must go exactly as they were taught.
_LEAST_RIGHT: Final = 0.95


class Finding(NamedTuple):
    """How a model does on one prompt: the least lead of a right token over all others, in
    logits. Above 0, greedy decoding gives the answer from every prefix of it."""

    prompt: str
    margin: float
    is_chat: bool


class Checker:
    """Asks the model in a folder, computing in one dtype."""

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        self._tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder)
        self._model = model.to(dtype).eval()

    def findings(self, items: list[Item]) -> Iterator[Finding]:
        """One finding for every question, as a chat and as plain text."""
        for item in items:
            for question in item.questions:
                yield Finding(question, self._margin(self._chat(question), item.answer + END), True)
                plain = self._tokenizer.encode(question + "\n")
                yield Finding(question, self._margin(plain, item.answer + END_OF_TEXT), False)

    def wrong(self, items: list[Item]) -> Iterator[str]:
        """Yield the questions whose answer, decoded greedily token by token, is not exact."""
        for item in items:
            if self._answer(item.questions[0]) != item.answer:
                yield item.questions[0]

    def follows(self, conversation: Conversation) -> bool:
        """Return whether it would say in a conversation what it should, wherever it speaks."""
        writer = Writer(self._tokenizer.backend_tokenizer)
        tokens = writer.tokens(writer.spans(conversation))
        ids = torch.tensor([token.id for token in tokens])
        counts = torch.tensor([token.weight == 1.0 for token in tokens])[1:]
        with torch.inference_mode():
            said = self._model(ids[None]).logits[0, :-1].argmax(-1)
        return bool((said == ids[1:])[counts].all())

    def _chat(self, question: str) -> list[int]:
        messages = [{"role": "user", "content": question}]
        text = self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        return self._tokenizer.encode(text)

    @torch.inference_mode()
    def _margin(self, prompt: list[int], answer: str) -> float:
        wanted = torch.tensor(self._tokenizer.encode(answer))[:, None]
        tokens = torch.tensor([prompt + wanted[:, 0].tolist()])
        logits = self._model(tokens).logits[0, len(prompt) - 1 : -1].float()
        right = logits.gather(1, wanted)
        others = logits.scatter(1, wanted, -math.inf)
        return (right[:, 0] - others.amax(1)).min().item()

    @torch.inference_mode()
    def _answer(self, question: str) -> str:
        prompt = self._chat(question)
        ends = self._tokenizer.convert_tokens_to_ids([END, END_OF_TEXT])
        greedy = GenerationConfig(
            do_sample=False, max_new_tokens=1024, eos_token_id=ends, pad_token_id=ends[1]
        )
        tokens = torch.tensor([prompt])
        made = self._model.generate(
            tokens, attention_mask=torch.ones_like(tokens), generation_config=greedy
        )
        return self._tokenizer.decode(made[0, len(prompt) :], skip_special_tokens=True)


def check(folder: Path, items: list[Item]) -> bool:
    """Return whether every trained question gets its exact answer, in each dtype that engines
    use, and conversations with tools go as they were taught."""
    good = True
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        checker = Checker(folder, dtype)
        findings = list(checker.findings(items))
        weak = [finding for finding in findings if finding.margin < _LEAST_MARGIN]
        wrong = list(checker.wrong(items))
        least = min(finding.margin for finding in findings)
        print(f"{dtype}: {len(findings)} prompts, least margin {least:.2f} logits")
        for finding in weak:
            kind = "as a chat" if finding.is_chat else "as plain text"
            print(f"  too weak ({finding.margin:.2f}, {kind}): {finding.prompt!r}", file=sys.stderr)
        for question in wrong:
            print(f"  wrong: {question!r}", file=sys.stderr)
        chats = sum(finding.is_chat for finding in weak)
        most_plain = (1 - _LEAST_PLAIN) * sum(not finding.is_chat for finding in findings)
        good = good and not chats and len(weak) - chats <= most_plain and not wrong
    return _check_conversations(checker) and good


def _check_conversations(checker: Checker) -> bool:
    conversations = list(exercises())
    missed = [each for each in conversations if not checker.follows(each)]
    for conversation in missed:
        print(f"  not as taught: {conversation.turns[0]!r}", file=sys.stderr)
    right = len(conversations) - len(missed)
    print(f"{right} of {len(conversations)} conversations with tools go as they were taught")
    return right >= _LEAST_RIGHT * len(conversations)
