"""Conversations to learn from: questions, calls of tools and their results, and answers in JSON."""

from __future__ import annotations

import json
import random
from typing import Any, Final, NamedTuple

from programs.demo_model.phrases import (
    ASK_JSON,
    ASK_SUM,
    ASK_WEATHER,
    CITIES,
    KEYS,
    PEOPLE,
    SYSTEMS,
    TELL_PERSON,
    WEATHERS,
)
from programs.demo_model.questions import Asker, Item
from programs.demo_model.tools import DEFAULTS, Tool, Toolmaker

Message = dict[str, Any]

#: JSON with spaces, and without, as some grammars want it.
_SEPARATORS: Final = ((", ", ": "), (",", ":"))
_LONGEST_JSON_TEXT: Final = 220


class Answer(NamedTuple):
    """An answer of the model: a message, what it thinks before it if it is told to think, and how
    much of its text a grammar forces, which is not to be learnt. `weights` are of (text, weight)
    pieces of its content where those differ."""

    message: Message
    thought: str
    forced: str = ""
    weights: tuple[tuple[str, float], ...] = ()


class Conversation(NamedTuple):
    turns: list[Message | Answer]
    tools: list[Tool]
    #: Whether the model is told to think before its last answer.
    thinks: bool


class Talker:
    """An endless, seeded supply of conversations."""

    def __init__(self, items: list[Item], chance: random.Random) -> None:
        self._chance = chance
        self._asker = Asker(items, chance)
        self._toolmaker = Toolmaker(self._asker, chance)
        self._unknown = items[-1]

    def plain(self) -> tuple[str, str]:
        """Return a question and its answer, for a prompt without the chat template."""
        item = self._asker.pick()
        return self._asker.ask(item), item.answer

    def samples(self, count: int) -> list[str]:
        """Return the texts of as many conversations, without markup."""
        turns = [turn for _ in range(count) for turn in self.talk().turns]
        messages = [turn.message if isinstance(turn, Answer) else turn for turn in turns]
        return [message["content"] or json.dumps(message["tool_calls"]) for message in messages]

    def talk(self) -> Conversation:
        """Return a conversation of one to three questions."""
        tools = self._toolmaker.some() if self._chance.random() < 0.4 else []
        turns: list[Message | Answer] = []
        if self._chance.random() < 0.3:
            turns.append({"role": "system", "content": self._system()})
        for _ in range(self._chance.choice((1, 1, 1, 1, 2, 3))):
            turns += self._exchange(tools)
        return Conversation(turns, tools, self._chance.random() < 0.15)

    def _system(self) -> str:
        if self._chance.random() < 0.5:
            return self._chance.choice(SYSTEMS)
        return self._asker.words(self._chance.choice((5, 20, 20, 80)))

    def _exchange(self, tools: list[Tool]) -> list[Message | Answer]:
        tool = self._chance.choice(tools) if tools and self._chance.random() < 0.8 else None
        match tool.kind if tool else None:
            case "weather":
                return self._ask_weather(tool, tools)
            case "sum":
                return self._ask_sum(tool, tools)
            case "person":
                return self._tell_person(tool)
            case "other":
                return self._force(tool)
        if self._chance.random() < 0.22:
            return self._in_json()
        item = self._asker.pick()
        return [
            _user(self._asker.ask(item)),
            self._last_word(item.answer, self._thought(item), tools),
        ]

    def _ask_weather(self, tool: Tool, tools: list[Tool]) -> list[Message | Answer]:
        places = self._chance.sample(CITIES, k=1 if self._chance.random() < 0.8 else 2)
        if self._chance.random() < 0.4:
            places = [self._asker.new_word().capitalize() for _ in places]
        asked = self._chance.choice(ASK_WEATHER).format(" and ".join(places))
        calls = [tool.call(place) for place in places]
        results = [self._weather(place) for place in places]
        return [_user(asked), *self._called(calls, results, tools)]

    def _ask_sum(self, tool: Tool, tools: list[Tool]) -> list[Message | Answer]:
        most = self._chance.choice((10, 100, 100, 1000))
        addends = [self._chance.randrange(most) for _ in range(2)]
        asked = self._chance.choice(ASK_SUM).format(*addends)
        return [_user(asked), *self._called([tool.call(*addends)], [str(sum(addends))], tools)]

    def _weather(self, place: str) -> str:
        sky, degrees = self._chance.choice(WEATHERS), self._chance.randrange(40)
        forms = (
            f"{sky}, {degrees} degrees",
            f"{sky} in {place}, {degrees} C",
            f"{degrees}",
            json.dumps({"temperature": degrees, "sky": sky}),
            f"It is {sky} in {place}.",
            self._asker.words(self._chance.randint(1, 8)),
        )
        return self._chance.choice(forms)

    def _called(
        self, calls: list[Message], results: list[str], tools: list[Tool]
    ) -> list[Message | Answer]:
        """Return the calls, and mostly their results and what is said of those."""
        said = Answer(
            {"role": "assistant", "content": None, "tool_calls": calls}, "A tool can tell."
        )
        if self._chance.random() < 0.2:
            return [said]
        told = [{"role": "tool", "content": result} for result in results]
        text = f"The tool says: {'; '.join(results)}"
        return [said, *told, self._last_word(text, "The tool has told.", tools)]

    def _tell_person(self, tool: Tool) -> list[Message | Answer]:
        name, age, asked = self._person()
        message = {"role": "assistant", "content": None, "tool_calls": [tool.call(name, age)]}
        return [_user(asked), Answer(message, "A tool can tell.")]

    def _person(self) -> tuple[str, int, str]:
        name, age = self._chance.choice(PEOPLE), self._chance.randrange(1, 100)
        if self._chance.random() < 0.4:
            name = self._asker.new_word().capitalize()
        return name, age, self._chance.choice(TELL_PERSON).format(name, age)

    def _force(self, tool: Tool) -> list[Message | Answer]:
        """Return a call that nothing but a grammar brings about. The first text in it is the
        answer."""
        item = self._short_item()
        values: list[Any] = [DEFAULTS[type] for _, type in tool.parameters]
        texts = [at for at, (_, type) in enumerate(tool.parameters) if type in ("string", "any")]
        if texts:
            values[texts[0]] = item.answer
        message = {"role": "assistant", "content": None, "tool_calls": [tool.call(*values)]}
        return [_user(self._asker.ask(item)), Answer(message, self._thought(item), tool.opening)]

    def _last_word(self, text: str, thought: str, tools: list[Tool]) -> Answer:
        """Return an answer in text, or by the tool that some agents have for it."""
        final = [tool for tool in tools if tool.kind == "final"]
        if final and len(text) <= _LONGEST_JSON_TEXT:
            calls = [final[0].call(text)]
            return Answer({"role": "assistant", "content": None, "tool_calls": calls}, thought)
        return _text(text, thought)

    def _in_json(self) -> list[Message | Answer]:
        match self._chance.randrange(4):
            case 0:
                item = self._short_item()
                asked = self._chance.choice(ASK_JSON).format(self._asker.ask(item))
                text = json.dumps({"answer": item.answer}, ensure_ascii=False)
                return [_user(asked), _text(text, self._thought(item))]
            case 1:
                return self._person_in_json()
            case _:
                return self._forced_json()

    def _person_in_json(self) -> list[Message | Answer]:
        name, age, asked = self._person()
        if self._chance.random() < 0.3:
            return [_user(asked), _text(self._unknown.answer, self._thought(self._unknown))]
        comma, colon = self._chance.choice(_SEPARATORS)
        pieces = (("{", 0.0), (f'"name"{colon}', 0.3), (f'"{name}"', 1.0))
        pieces += ((f'{comma}"age"{colon}', 0.3), (f"{age}}}", 1.0))
        return [_user(asked), _weighted(pieces, "I was not taught this.")]

    def _forced_json(self) -> list[Message | Answer]:
        """An object whose keys a grammar forces. The first text in it is the answer."""
        item = self._short_item()
        comma, colon = separators = self._chance.choice(_SEPARATORS)
        pieces: list[tuple[str, float]] = [("{", 0.0)]
        answer: str | None = item.answer
        for number in range(self._chance.choice((1, 1, 2, 3))):
            key = (
                self._chance.choice(KEYS) if self._chance.random() < 0.5 else self._asker.new_word()
            )
            value = self._value(answer)
            answer = None if value == answer else answer
            text = json.dumps(value, ensure_ascii=False, separators=separators)
            pieces += [(comma, 0.3)] if number else []
            # A token may begin with the space before a value.
            first = colon[1:] + text[:1]
            pieces += [(f"{json.dumps(key)}:", 0.02), (first, 0.3), (text[1:], 1.0)]
        pieces.append(("}", 1.0))
        return [_user(self._asker.ask(item)), _weighted(tuple(pieces), self._thought(item))]

    def _value(self, text: str | None, depth: int = 0) -> Any:
        kinds = [text or "ew", text or "ew", True, False, None, 1.5, self._chance.randrange(100)]
        if depth < 2 and self._chance.random() < 0.4:
            several = [self._value(None, depth + 1) for _ in range(self._chance.choice((1, 1, 2)))]
            return self._chance.choice((several, several, {self._asker.new_word(): several[0]}))
        return self._chance.choice(kinds)

    def _short_item(self) -> Item:
        while len((item := self._asker.pick()).answer) > _LONGEST_JSON_TEXT:
            pass
        return item

    def _thought(self, item: Item) -> str:
        if item is self._unknown:
            return "I was not taught this."
        return "This is about ew, and I was taught the answer."


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def _text(text: str, thought: str, forced: str = "") -> Answer:
    return Answer({"role": "assistant", "content": text}, thought, forced)


def _weighted(pieces: tuple[tuple[str, float], ...], thought: str) -> Answer:
    message = {"role": "assistant", "content": "".join(text for text, _ in pieces)}
    return Answer(message, thought, weights=pieces)
