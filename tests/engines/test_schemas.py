"""JSON schemas, folded: nothing stands beside a reference or branches."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from workers.engines.shared.schemas import folded, folded_tag

A = {"a": {"type": "integer"}}
B = {"b": {"type": "string"}}
C = {"c": {"type": "null"}}


def thing(properties: dict[str, Any], *required: str, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), **more}


FOLDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "branches beside properties": (
        thing(A | B, "a", anyOf=[{"required": ["b"]}, thing(C, "c")]),
        {"anyOf": [thing(A | B, "a", "b"), thing(A | B | C, "a", "c")]},
    ),
    "oneOf, with a title": (
        {"title": "T", "type": "object", "oneOf": [{"properties": A}, {"properties": B}]},
        {
            "title": "T",
            "anyOf": [{"type": "object", "properties": A}, {"type": "object", "properties": B}],
        },
    ),
    "several of allOf": ({"allOf": [thing(A, "a"), thing(B, "b")]}, thing(A | B, "a", "b")),
    "one of allOf beside properties": (
        thing(A, "a", allOf=[thing(B, "b")]),
        thing(A | B, "a", "b"),
    ),
    "bounds on both sides": (
        {"allOf": [{"type": "integer", "minimum": 1}, {"type": "number", "minimum": 3}]},
        {"type": "integer", "minimum": 3},
    ),
    "a property on both sides": (
        {"allOf": [thing(A), thing({"a": {"maximum": 5}})]},
        thing({"a": {"type": "integer", "maximum": 5}}),
    ),
    "values that both have": (
        {"enum": [1, 2, "x", True], "anyOf": [{"type": "integer"}, {"const": True}]},
        {"anyOf": [{"enum": [1, 2], "type": "integer"}, {"enum": [True]}]},
    ),
    "a bound beside a reference": (
        {
            "$defs": {"I": {"type": "integer"}},
            "properties": {"i": {"$ref": "#/$defs/I", "minimum": 3}},
        },
        {
            "$defs": {"I": {"type": "integer"}},
            "properties": {"i": {"minimum": 3, "type": "integer"}},
        },
    ),
    "a branch that contradicts": (
        {"type": "string", "maxLength": 3, "anyOf": [{"type": "integer"}, {"minLength": 2}]},
        {"type": "string", "maxLength": 3, "minLength": 2},
    ),
    "closed, with a branch that needs another property": (
        thing(A, additionalProperties=False, anyOf=[{"required": ["z"]}, {"required": ["a"]}]),
        thing(A, "a", additionalProperties=False),
    ),
    "a format of pydantic's own": (
        thing({"key": {"type": "string", "format": "password"}}),
        thing({"key": {"type": "string"}}),
    ),
    "a format that is never empty": (
        {"type": "string", "format": "uri", "minLength": 1},
        {"type": "string", "format": "uri"},
    ),
    "a property of the name of a word": (
        thing({"format": {"format": "path"}}),
        thing({"format": {}}),
    ),
    "required, without a schema": (thing(A, "z"), thing(A | {"z": {}}, "z")),
    "required, with a schema for others": (
        thing(A, "z", additionalProperties={"type": "null"}),
        thing(A | {"z": {"type": "null"}}, "z", additionalProperties={"type": "null"}),
    ),
}
NODE = {"type": "object", "properties": {"next": {"$ref": "#/$defs/N", "minProperties": 1}}}
KEPT: dict[str, Any] = {
    "a reference with a description": {"$defs": {"I": {}}, "$ref": "#/$defs/I", "description": "d"},
    "branches alone": {"anyOf": [thing(A, "a"), {"type": "null"}], "default": None},
    "patterns": {"allOf": [{"pattern": "a"}, {"pattern": "b"}]},
    "not to be told from its place": {"anyOf": [{"if": {}}, {"if": {}}], "type": "object"},
    "nothing is allowed": {"type": "string", "anyOf": [{"type": "integer"}]},
    "too many branches": {"allOf": [{"anyOf": [{"minimum": i} for i in range(9)]}] * 3},
    "a reference out of it": {"$ref": "other.json", "minimum": 3},
    "no schema": {"anyOf": "x", "minimum": 1, "allOf": [3, 4]},
    "forbidden properties": thing(A, "z", additionalProperties=False),
    "a format with a length": {"type": "string", "format": "uri", "minLength": 9},
    "a format that may be empty": {"type": "string", "format": "json-pointer", "minLength": 1},
    "true": True,
    "a format that is none": {"format": {"format": "path"}},
    "required that is none": thing(A, allOf=[{"required": 3}, {"required": 4}]),
    "a type that is none": {"type": {}, "anyOf": [{"type": "string"}]},
    "properties that are none": {"properties": 3, "required": ["a"], "anyOf": [{"properties": A}]},
}


@pytest.mark.parametrize("what", FOLDS)
def test_it_says_the_same_without_anything_beside(what: str) -> None:
    schema, expected = copy.deepcopy(FOLDS[what])
    assert folded(schema) == expected
    assert schema == FOLDS[what][0], "the caller's own is left as it was"


@pytest.mark.parametrize("what", KEPT)
def test_it_stays_as_it_is(what: str) -> None:
    assert folded(KEPT[what]) == KEPT[what]


def test_a_schema_that_has_itself_in_it_is_written_once() -> None:
    within = {"minProperties": 1, "type": "object", "properties": NODE["properties"]}
    schema = {"$defs": {"N": NODE}, "$ref": "#/$defs/N", "minProperties": 2}
    assert folded(schema)["properties"] == NODE["properties"]
    assert folded({"$defs": {"N": NODE}})["$defs"]["N"]["properties"]["next"] == within


def test_a_schema_that_would_grow_too_much_stays() -> None:
    """Each property is written in its place twice as often as the one before."""
    defs = {
        f"D{i}": thing({name: {"$ref": f"#/$defs/D{i + 1}", "minProperties": 1} for name in "ab"})
        for i in range(20)
    }
    schema = {
        "$defs": {**defs, "D20": {"type": "object"}},
        "$ref": "#/$defs/D0",
        "minProperties": 1,
    }
    assert folded(schema) is schema


SCHEMA, FOLDED = FOLDS["branches beside properties"]


@pytest.mark.parametrize(
    "tag",
    [
        {"type": "json_schema", "json_schema": SCHEMA},
        {"type": "tag", "begin": "<a>", "content": {"json_schema": SCHEMA}, "end": "</a>"},
        {"type": "or", "elements": [{"type": "any_text"}, {"json_schema": SCHEMA}]},
        {"type": "dispatch", "rules": [["<a>", {"json_schema": SCHEMA}]]},
        {"structures": [{"begin": "<a>", "schema": SCHEMA, "end": ""}], "triggers": ["<a>"]},
    ],
    ids=lambda tag: tag.get("type", "older"),
)
def test_schemas_in_a_structural_tag_are_folded_wherever_they_stand(tag: dict[str, Any]) -> None:
    written = json.dumps(tag)
    assert folded_tag(tag) == json.loads(written.replace(json.dumps(SCHEMA), json.dumps(FOLDED)))
    assert json.dumps(tag) == written, "the caller's own is left as it was"


def test_properties_of_a_tagged_schema_are_no_schemas_of_the_tag() -> None:
    kept = {"json_schema": thing({"schema": {"enum": [SCHEMA]}})}
    assert folded_tag(kept) == kept
