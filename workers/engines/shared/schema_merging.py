"""Two JSON schemas as one that allows what both do."""

from __future__ import annotations

import json
from typing import Any, Final

_LOWEST: Final = frozenset(
    {"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"}
)
_HIGHEST: Final = frozenset(
    {"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"}
)
_KINDS: Final = {
    **{bool: "boolean", str: "string", dict: "object", list: "array"},
    type(None): "null",
}

_SCHEMA: Final = frozenset({"items", "additionalProperties"})

Schema = dict[str, Any]


class CannotFold(Exception):
    """There is no such schema without `allOf`, or none that is worth the trouble."""


def merged(left: Schema, right: Schema) -> Schema | None:
    """Return a schema that allows what both do; None if that is nothing. Neither has a reference
    or branches. Raises `CannotFold`."""
    if not left or not right:
        return left or right
    _refuse_contextual(left, right)
    left, right = _within(left, right), _within(right, left)
    both = {**left, **right}
    for key in left.keys() & right.keys():
        if _text(left[key]) != _text(right[key]):
            both[key] = _both(key, left[key], right[key])
    return _possible(both)


def _refuse_contextual(left: Schema, right: Schema) -> None:
    """Raise `CannotFold` for words whose meaning depends on what stands in the same object."""
    if {"unevaluatedProperties", "unevaluatedItems", "if"} & (left.keys() | right.keys()):
        raise CannotFold
    places = [each.keys() & {"items", "prefixItems"} for each in (left, right)]
    if all(places) and "prefixItems" in places[0] | places[1]:
        raise CannotFold


def _within(schema: Schema, other: Schema) -> Schema:
    """Return the schema without the properties that the other one forbids."""
    if other.get("additionalProperties", True) is True:
        return schema
    known = other.get("properties", {})
    kept = {name: each for name, each in schema.get("properties", {}).items() if name in known}
    is_same = len(kept) == len(schema.get("properties", {}))
    is_closed = other["additionalProperties"] is False and "patternProperties" not in other
    if "patternProperties" in schema or not (is_same or is_closed):
        raise CannotFold
    return schema if is_same else schema | {"properties": kept}


def _both(key: str, left: Any, right: Any) -> Any:
    """Return the value of a keyword that allows what both values do."""
    if key == "type":
        return _types(left, right)
    if key == "enum":
        known = {_text(each) for each in right}
        return [each for each in left if _text(each) in known]
    if key == "required":
        return list(dict.fromkeys([*left, *right]))
    if key == "properties":
        common = left.keys() & right.keys()
        return {**left, **right} | {name: {"allOf": [left[name], right[name]]} for name in common}
    if key in _SCHEMA:
        return False if left is False or right is False else {"allOf": [left, right]}
    if key in _LOWEST | _HIGHEST and not isinstance(left, bool) and not isinstance(right, bool):
        return max(left, right) if key in _LOWEST else min(left, right)
    raise CannotFold


def _types(left: Any, right: Any) -> Any:
    lefts, rights = ([each] if isinstance(each, str) else each for each in (left, right))
    common = [each for each in lefts if each in rights]
    if "integer" not in common and {"integer", "number"} <= {*lefts, *rights}:
        common.append("integer")
    return common[0] if len(common) == 1 else common


def _possible(schema: Schema) -> Schema | None:
    """Return the schema; with values to choose from, those alone that it allows. None if it allows
    nothing."""
    if schema.get("type") == []:
        return None
    is_closed = schema.get("additionalProperties") is False and "patternProperties" not in schema
    known = schema.get("properties", {}).keys()
    if is_closed and not set(schema.get("required", [])) <= known:
        if schema.get("type") != "object":
            raise CannotFold  # All but objects are allowed.
        return None
    if "enum" in schema and "type" in schema:
        schema = schema | {"enum": [e for e in schema["enum"] if _is_of(e, schema["type"])]}
    return None if schema.get("enum") == [] else schema


def _is_of(value: Any, types: Any) -> bool:
    own = _KINDS.get(type(value)) or ("integer" if value % 1 == 0 else "number")
    wanted = [types] if isinstance(types, str) else types
    return own in wanted or (own == "integer" and "number" in wanted)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
