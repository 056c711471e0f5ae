"""Descriptions of keys in words, made from the schema: so no message depends on a library's own."""

from __future__ import annotations

import difflib
import json
from functools import cache
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from contract.config.schema import Config

_NOUNS: Final = {
    "integer": "a whole number",
    "number": "a number",
    "string": "a text",
    "boolean": "true or false",
    "object": "an object, as in {...}",
}
_ID_RULE: Final = (
    "a name for a model: at most 96 letters, digits and . _ : @ / -, a letter or digit first"
)
#: The form of a text in words, by a part of the pattern that demands it.
_FORMS: Final = {
    "https?": "an address like https://host",
    "._:@-": _ID_RULE,
    "_.-]{1,64}": "a name for a group: 1 to 64 letters, digits and . _ -",
    "*?._": "a host's name, or a pattern of names such as `gpu-*`: at most 253 characters",
    "._-]{1,253}": "a host's name: 1 to 253 letters, digits and . _ -",
    r"(\*|": "an origin like https://host, or `*`",
    "^[A-Za-z_]": "a variable's name, or how it begins and a `*`",
}
_LONGEST_SHOWN: Final = 60


class Mistake(NamedTuple):
    """A fault of the key at a path."""

    keys: list[str]
    message: str
    is_missing: bool = False


def mistakes(error: ValidationError) -> list[Mistake]:
    """Return what a refusal of the schema means, one for each key."""
    found: dict[tuple[str, ...], Mistake] = {}
    for problem in error.errors():
        mistake = _mistake(problem)
        found.setdefault(tuple(mistake.keys), mistake)
    return list(found.values())


def _mistake(problem: Any) -> Mistake:
    is_id = "[key]" in problem["loc"]
    keys, node = _follow([str(part) for part in problem["loc"] if part != "[key]"])
    name = ".".join(keys)
    if problem["type"] == "missing":
        return Mistake(keys, f"`{name}` is missing; it must be {phrase(node)}", is_missing=True)
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(keys[-1], _keys_at(keys[:-1]), n=1)
        hint = f"; did you mean `{near[0]}`?" if near else ""
        return Mistake(keys, f"unknown key `{name}`{hint}")
    if (said := _own_words(problem)) is not None:
        return Mistake(keys, f"`{name}`: {said}")
    if is_id:
        form = _form(problem.get("ctx", {}).get("pattern", "")) or _ID_RULE
        return Mistake(keys, f"`{name}` is no {form.removeprefix('a ')}")
    return Mistake(keys, f"`{name}` is {shown(problem['input'])}; it must be {phrase(node)}")


def _own_words(problem: Any) -> str | None:
    """Return what a validator of ours says; None if the library refused."""
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    return None if "url" in problem else str(problem["msg"])


def shown(value: Any) -> str:
    """Return a value as it stands in the file, shortened."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def phrase(node: dict[str, Any]) -> str:
    """Return what a value must be, from its JSON schema."""
    node = _resolved(node)
    if "anyOf" in node:
        choices = [each for each in node["anyOf"] if each.get("type") != "null"]
        return " or ".join(map(phrase, choices))
    if "enum" in node:
        return f"one of {', '.join(f'`{each}`' for each in node['enum'])}"
    kind = node.get("type", "")
    if kind == "string":
        return _text(node)
    if kind == "array":
        return f"a list, each item {phrase(node['items'])}"
    if kind == "object" and isinstance(node.get("additionalProperties"), dict):
        values = _resolved(node["additionalProperties"])
        return _NOUNS[kind] if "properties" in values else f"an object, each value {phrase(values)}"
    return f"{_NOUNS.get(kind, 'something else')}{_bounds(node)}"


def _text(node: dict[str, Any]) -> str:
    pattern, least, most = (node.get(key) for key in ("pattern", "minLength", "maxLength"))
    if pattern is not None:
        return _form(pattern) or "a text"
    return f"a text of {least or 0} to {most} characters" if most else _NOUNS["string"]


def _form(pattern: str) -> str:
    """Return in words what a pattern demands; empty if it is none that is known here."""
    return next((words for part, words in _FORMS.items() if part in pattern), "")


def _bounds(node: dict[str, Any]) -> str:
    least, most, above = (node.get(key) for key in ("minimum", "maximum", "exclusiveMinimum"))
    if above is not None:
        return f" above {above}" + (f", at most {most}" if most is not None else "")
    if least is not None and most is not None:
        return f" from {least} to {most}"
    return f", at least {least}" if least is not None else ""


def _follow(loc: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Return the part of a path that is in the file, and the schema there; validators add steps
    of their own, such as the branch of a union."""
    node = schema()
    keys: list[str] = []
    for part in loc:
        below = _below(node, part)
        if below is None and not _is_open(node):
            if not any("properties" in each for each in _branches(node)):
                break
            return [*keys, part], {}
        keys.append(part)
        node = below or {}
    return keys, node


def _keys_at(path: list[str]) -> list[str]:
    """Return the keys that the section at a path may have."""
    return [key for each in _branches(_follow(path)[1]) for key in each.get("properties", {})]


def _below(node: dict[str, Any], part: str) -> dict[str, Any] | None:
    for each in _branches(node):
        if part in each.get("properties", {}):
            return dict(each["properties"][part])
        for values in (
            *each.get("patternProperties", {}).values(),
            each.get("additionalProperties"),
        ):
            if isinstance(values, dict):
                return dict(values)
        if each.get("type") == "array" and part.isdigit():
            return dict(each["items"])
    return None


def _is_open(node: dict[str, Any]) -> bool:
    return any(each.get("additionalProperties") is True for each in _branches(node))


def _branches(node: dict[str, Any]) -> list[dict[str, Any]]:
    node = _resolved(node)
    return [_resolved(each) for each in node.get("anyOf", [node])]


def _resolved(node: dict[str, Any]) -> dict[str, Any]:
    reference = node.get("$ref")
    if reference is None:
        return node
    return dict(schema()["$defs"][reference.rpartition("/")[2]])


@cache
def schema() -> dict[str, Any]:
    """Return the JSON schema of the configuration file."""
    return Config.model_json_schema(by_alias=True)
