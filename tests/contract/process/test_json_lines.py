"""Where a key stands in JSON text, however the text is written."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from contract.process.json_lines import DuplicateKey, line_of, load_json

#: Whatever JSON can hold; strings full of what could be taken for structure.
texts = st.text(st.sampled_from('ab"\\{}[]:, \n\t/\u00e9\u2028\U0001f600'), max_size=8)
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=25,
)
spaces = st.text(st.sampled_from(" \t\n\r"), max_size=3)


class Writer:
    """JSON with spaces wherever they may stand, and the line of each key as it is written."""

    def __init__(self, draw: Any, escape: bool) -> None:
        self.text = ""
        self.lines: dict[tuple[str, ...], int] = {}
        self._draw = draw
        self._escape = escape

    def write(self, value: Any, path: tuple[str, ...] = ()) -> None:
        self._put(self._draw(spaces))
        if isinstance(value, dict):
            self._write_items("{}", value.items(), path)
        elif isinstance(value, list):
            self._write_items("[]", enumerate(value), path)
        else:
            self._put(json.dumps(value, ensure_ascii=self._escape))
        self._put(self._draw(spaces))

    def _write_items(self, brackets: str, items: Any, path: tuple[str, ...]) -> None:
        self._put(brackets[0])
        for i, (key, value) in enumerate(items):
            self._put("," if i else "")
            inner = (*path, str(key))
            if brackets == "{}":
                self._put(self._draw(spaces))
                self.lines[inner] = self.text.count("\n") + 1
                self._put(json.dumps(key, ensure_ascii=self._escape) + self._draw(spaces) + ":")
            self.write(value, inner)
        self._put(brackets[1])

    def _put(self, text: str) -> None:
        self.text += text


@given(st.data(), values, st.booleans())
def test_every_key_is_found_on_its_line(data: Any, value: Any, escape: bool) -> None:
    writer = Writer(data.draw, escape)
    writer.write(value)
    assert load_json(writer.text) == value
    for path, line in writer.lines.items():
        assert line_of(writer.text, path) == line


@given(values)
def test_json_without_duplicates_loads_as_it_always_did(value: Any) -> None:
    assert load_json(json.dumps(value, indent=1)) == value


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        ('{"a": 1,\n"a": 2}', "a", 2),
        ('{"a": {"b": 1,\n\n"b": 2}}', "a.b", 3),
        ('[{"x": 1}, {"x": 1,\n"x": 2}]', "1.x", 2),
        ('{"a": 1,\n"\\u0061": 2}', "a", 2),
        ('{"a\\"b": 1,\n"a\\"b": [":"]}', 'a"b', 2),
    ],
)
def test_a_key_given_twice_is_found_however_it_is_spelled(text: str, key: str, line: int) -> None:
    with pytest.raises(DuplicateKey) as refusal:
        load_json(text)
    assert (refusal.value.key, refusal.value.line) == (key, line)


def test_the_same_key_in_different_objects_is_no_duplicate() -> None:
    assert load_json('{"a": {"a": 1}, "b": [{"a": 1}, {"a": {"a": 2}}]}')


def test_a_key_that_is_not_there_is_sought_in_the_nearest_section_around() -> None:
    text = '{\n"a": {\n"b": 1},\n"c": [\n{"d": 1}]}'
    assert line_of(text, ["a", "b"]) == 3
    assert line_of(text, ["a", "x", "y"]) == 2
    assert line_of(text, ["c", "0", "d"]) == 5
    assert line_of(text, ["c", "7", "d"]) == 4
    assert line_of(text, ["x"]) == 1
    assert line_of(text, []) == 1
