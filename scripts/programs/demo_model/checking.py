"""Whether a model has learnt what it was taught."""

from __future__ import annotations

import math
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import torch
from programs.demo_model.conversations import Conversation, Talker
from programs.demo_model.corpus import Writer
from programs.demo_model.questions import Item
from programs.demo_model.tokenizer import END, END_OF_TEXT
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

#: The right token must lead every other by this much (in logits) at each step of an answer.
_LEAST_MARGIN: Final = 1.0
#: Conversations that it was not taught, made in the same way, and the share of them in which it
#: must say exactly what it was taught to say.
_CONVERSATIONS: Final = 400
_LEAST_RIGHT: Final = 0.9
_OTHER_SEED: Final = 4321


class Finding(NamedTuple):
    """How a model does on one prompt: the least lead of a right token over all others, in
    logits. Above 0, greedy decoding gives the answer from every prefix of it."""

    prompt: str
    margin: float


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
                yield Finding(question, self._margin(self._chat(question), item.answer + END))
                plain = self._tokenizer.encode(question + "\n")
                yield Finding(question + "\n", self._margin(plain, item.answer + END_OF_TEXT))

    def wrong(self, items: list[Item]) -> Iterator[str]:
        """Yield the questions whose answer, decoded greedily token by token, is not exact."""
        for item in items:
            if self._answer(item.questions[0]) != item.answer:
                yield item.questions[0]

    def conversations(self, items: list[Item]) -> Iterator[tuple[Conversation, str, bool]]:
        """Conversations that it was not taught, with their text, and whether it would say in each
        what it should."""
        talker = Talker(items, random.Random(_OTHER_SEED))
        writer = Writer(self._tokenizer.backend_tokenizer)
        for _ in range(_CONVERSATIONS):
            conversation = talker.talk()
            spans = writer.spans(conversation)
            tokens = writer.tokens(spans)
            ids = torch.tensor([token.id for token in tokens])
            counts = torch.tensor([token.weight == 1.0 for token in tokens])[1:]
            with torch.inference_mode():
                said = self._model(ids[None]).logits[0, :-1].argmax(-1)
            right = bool((said == ids[1:])[counts].all())
            yield conversation, "".join(text for text, _ in spans), right

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


def check(folder: Path, items: list[Item], *, tells_wrong: bool = False) -> bool:
    """Return whether every trained question gets its exact answer, in each dtype that engines
    use, and most conversations with tools and JSON go as they were taught."""
    good = True
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        checker = Checker(folder, dtype)
        findings = list(checker.findings(items))
        weak = [finding for finding in findings if finding.margin < _LEAST_MARGIN]
        wrong = list(checker.wrong(items))
        least = min(finding.margin for finding in findings)
        print(f"{dtype}: {len(findings)} prompts, least margin {least:.2f} logits")
        for finding in weak:
            print(f"  too weak ({finding.margin:.2f}): {finding.prompt!r}", file=sys.stderr)
        for question in wrong:
            print(f"  wrong: {question!r}", file=sys.stderr)
        good = good and not weak and not wrong
    return _check_conversations(checker, items, tells_wrong=tells_wrong) and good


def _check_conversations(checker: Checker, items: list[Item], *, tells_wrong: bool) -> bool:
    totals: Counter[str] = Counter()
    rights: Counter[str] = Counter()
    for conversation, text, right in checker.conversations(items):
        kind = "with tools" if conversation.tools else "without tools"
        totals[kind] += 1
        rights[kind] += right
        if tells_wrong and not right:
            print(f"  not as taught: {text!r}")
    for kind, total in totals.items():
        print(f"{kind}: {rights[kind]} of {total} conversations go as they were taught")
    return all(rights[kind] >= _LEAST_RIGHT * total for kind, total in totals.items())
