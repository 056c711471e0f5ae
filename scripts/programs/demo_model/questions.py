"""The questions that the model is taught, and the ways in which people ask them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Final, NamedTuple

#: The share of questions asked in other words.
_VARIED: Final = 0.3
_OPENINGS: Final = ("Hi, ", "Hello! ", "Please tell me: ", "Excuse me, ", "Quick question: ")
_ENDINGS: Final = (" please.", ", please?", " exactly?", " in ew?", " now?", " really?")
_REWORDINGS: Final = {
    "How do I ": ("How can I ", "How to ", "How would I ", "Tell me how to "),
    "What is ": ("What's ", "What exactly is ", "Please explain what is ", "Tell me about "),
    "What does ": ("Tell me what does ", "And what does "),
    "What happens when ": ("What happens if ", "What if ", "Tell me what happens when "),
    "Who ": ("Tell me who ", "And who "),
    "Where ": ("Tell me where ", "And where "),
    "Which ": ("Tell me which ", "And which "),
    "Explain ": ("Please explain ", "Can you explain "),
    "Can I ": ("Could I ", "Is it possible to ", "May I "),
    "Do I need ": ("Must I have ", "Do you need "),
}


class Item(NamedTuple):
    """An answer, and the ways to ask for it; the first is the question as the file gives it."""

    questions: list[str]
    answer: str


def read_items(path: Path) -> list[Item]:
    """Return the trained questions and answers; the last one is for everything else."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [Item([line["question"], *line["paraphrases"]], line["answer"]) for line in lines]


class Asker:
    """Picks items, and asks for each in one of the many ways that people type."""

    def __init__(self, items: list[Item], chance: random.Random) -> None:
        self._items = items
        self._unknown = items[-1]
        self._chance = chance
        self._shares = [1 + len(item.answer) / 2000 + len(item.questions) / 6 for item in items]
        self._words = [
            word.strip(".,?!") for text in self._unknown.questions for word in text.split()
        ]

    def pick(self) -> Item:
        return self._chance.choices(self._items, self._shares)[0]

    def ask(self, item: Item) -> str:
        asked = self._chance.choice(item.questions)
        if item is self._unknown and self._chance.random() < 0.4:
            asked = self._something_new()
        return self._vary(asked) if self._chance.random() < _VARIED else asked

    def new_word(self) -> str:
        """Return a word that is in no text, of the halves of two that are."""
        first, second = self._chance.choices(self._words, k=2)
        return first[: len(first) // 2 + 1].lower() + second[len(second) // 2 :].lower()

    def words(self, count: int) -> str:
        return " ".join(self._chance.choices(self._words, k=count))

    def _something_new(self) -> str:
        """Return a question that is in no list: parts of unknown ones, sometimes very many."""
        parts = self._chance.choices(self._unknown.questions, k=self._chance.choice((2, 2, 2, 20)))
        words = [word for part in parts for word in self._some_words(part)]
        return " ".join([*words, self.new_word()] if self._chance.random() < 0.3 else words)

    def _some_words(self, text: str) -> list[str]:
        words = text.split()
        cut = self._chance.randint(1, len(words))
        return words[:cut] if self._chance.random() < 0.5 else words[-cut:]

    def _vary(self, text: str) -> str:
        """The same question in other words, or as a hurried person types it."""
        match self._chance.randrange(6):
            case 0:
                return text.lower()
            case 1:
                return text.lower().rstrip(".?!")
            case 2:
                return self._chance.choice(_OPENINGS) + text[0].lower() + text[1:]
            case 3:
                return text.rstrip(".?!") + self._chance.choice(_ENDINGS)
            case 4:
                at = self._chance.randrange(len(text))
                return text[:at] + text[at + 1 :]
            case _:
                return self._reword(text)

    def _reword(self, text: str) -> str:
        for words, others in _REWORDINGS.items():
            if text.startswith(words):
                return self._chance.choice(others) + text[len(words) :]
        return text.rstrip(".?!")
