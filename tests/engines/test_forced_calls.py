"""Calls that a schema forces: what it asks for, and how they are read wherever they are cut."""

from __future__ import annotations

import json
from typing import Any

import pytest

from contract.asked import Tools
from workers.answers.transcript import Transcript
from workers.engines.shared.parsing.forced import forcing, reader_of
from workers.engines.shared.parsing.text import ParsedText


def tools(*parameters: Any, choice: Any = "required", **more: Any) -> Tools:
    functions = [{"name": f"f{n}", "parameters": each} for n, each in enumerate(parameters)]
    written = [{"type": "function", "function": each} for each in functions]
    return Tools(json.dumps(written), choice, **more)


def read(asked: Tools, *texts: str) -> str:
    parsed, transcript = ParsedText(None, reader_of(asked)), Transcript()
    said = ""
    for number, text in enumerate(texts, start=1):
        pieces = parsed.feed(text, (), finished=number == len(texts))
        said += "".join(transcript.piece(*piece) for piece in pieces)
    return said


CALLS = [
    {"name": "f0", "parameters": {"a": '"}], {"name": "f1", "parameters": {', "b": [{"c": "\\"}]}},
    {"name": 'f"1', "parameters": {}},
    {"name": "f0", "parameters": {"a": {"b": {}}}},
]


@pytest.mark.parametrize("spaces", [(", ", ": "), (",", ":"), (" ,\n", " :\t")])
def test_an_array_of_calls_is_read_wherever_it_is_cut(spaces: tuple[str, str]) -> None:
    text = json.dumps(CALLS, separators=spaces)
    arguments = [json.dumps(call["parameters"], separators=spaces) for call in CALLS]
    names = ["f0", 'f"1', "f0"]
    expected = "".join(
        f"\0{number} {name}\0{said}"
        for number, (name, said) in enumerate(zip(names, arguments, strict=True))
    )
    assert read(tools({}), *text) == expected
    for cut in range(len(text)):
        assert read(tools({}), text[:cut], text[cut:]) == expected


def test_arguments_come_as_they_are_written() -> None:
    parsed = ParsedText(None, reader_of(tools({})))
    parsed.feed('[{"name": "f0", "parameters": {"a": ', (), finished=False)
    ((_, text),) = parsed.feed('"long te', (), finished=False)
    assert text == '"long te'


def test_a_call_that_is_cut_off_is_told_as_far_as_it_came() -> None:
    assert read(tools({}), '[{"name": "f0", "parameters": {"a": 1') == '\x000 f0\x00{"a": 1'


def test_a_named_tool_is_its_arguments() -> None:
    asked = tools({"type": "object"}, choice="named", name="f0")
    assert read(asked, '{"a"', ": 1}") == '\x000 f0\x00{"a": 1}'
    assert json.loads(forcing(asked).value) == {"type": "object"}


def test_each_call_is_of_one_tool_with_its_own_parameters() -> None:
    first = {"type": "object", "properties": {"a": {"type": "integer"}}}
    schema = json.loads(forcing(tools(first, None, parallel=False)).value)
    assert (schema["minItems"], schema["maxItems"]) == (1, 1)
    calls = [each["properties"] for each in schema["items"]["anyOf"]]
    assert [call["name"]["enum"] for call in calls] == [["f0"], ["f1"]]
    assert calls[0]["parameters"] == first
    assert calls[1]["parameters"] == {"type": "object", "properties": {}}
    assert "maxItems" not in json.loads(forcing(tools(first)).value)


def tree(of: str) -> dict[str, Any]:
    """A schema that refers to itself, so that it cannot be folded."""
    node = {"type": "object", "properties": {of: {"$ref": "#/$defs/node"}}}
    return {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/node"}},
        "$defs": {"node": node},
    }


def test_references_are_to_the_root_of_the_schema_of_all_calls() -> None:
    schema = json.loads(forcing(tools(tree("a"), tree("a"))).value)
    assert schema["$defs"] == tree("a")["$defs"]
    assert "$defs" not in schema["items"]["anyOf"][0]["properties"]["parameters"]
    with pytest.raises(ValueError, match="`node` in `\\$defs` is not the same"):
        forcing(tools(tree("a"), tree("b")))
