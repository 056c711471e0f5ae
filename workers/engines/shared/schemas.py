"""JSON schemas in a form to which the engines' compilers of constraints keep.

xgrammar 0.2.8 and 0.2.9, by which vLLM, SGLang and TensorRT-LLM constrain answers, read one of
`$ref`, `allOf`, `anyOf`, `oneOf` and nothing that stands beside it, take any JSON for an `allOf` of
several schemas, and forget a required property that has no schema. Nothing tells of that: the
answer breaks the schema. A folded schema says the same with nothing beside one of these words.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from workers.engines.shared.schema_merging import CannotFold, Schema, merged

_APPLIED: Final = ("$ref", "allOf", "anyOf", "oneOf")
#: They constrain nothing, and stay where they are.
_NOTES: Final = frozenset(
    {"$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "default"}
    | {"examples", "deprecated", "readOnly", "writeOnly"}
)
_NAMED_SCHEMAS: Final = frozenset({"properties", "patternProperties", "$defs", "definitions"})
_SCHEMA: Final = frozenset({"items", "additionalProperties"})
_SCHEMAS: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
#: A structural tag has schemas in these: of its newer form the one, of its older the other.
_SCHEMA_OF_TAG: Final = frozenset({"json_schema", "schema"})
#: Those of JSON Schema that both xgrammar and llguidance know, or vLLM 0.32 takes for known.
_NEVER_EMPTY: Final = frozenset(
    {"date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"}
)
_FORMATS: Final = _NEVER_EMPTY | {
    *("uri-reference", "uri-template", "json-pointer", "relative-json-pointer")
}
_MOST_ALTERNATIVES: Final = 64
#: A schema that takes more is left as it is: a compilation costs more than a fold.
_MOST_STEPS: Final = 4_000


class _TooLarge(Exception):
    """The whole schema stays as it is."""


def folded(schema: Any) -> Any:
    """Return a schema that allows the same values. Its parts that cannot be folded are in it as
    they were. `oneOf` may become `anyOf`, as it is to xgrammar anyway."""
    try:
        return _Fold(schema).fold(schema)
    except (_TooLarge, RecursionError):
        return schema
    except (TypeError, AttributeError, ValueError):
        return schema  # It is none: the engine says why.


def folded_tag(tag: Any) -> Any:
    """Return a structural tag of xgrammar's, in either of its forms, with the schemas in it so."""
    if isinstance(tag, list):
        return [folded_tag(each) for each in tag]
    if not isinstance(tag, dict):
        return tag
    return {
        key: folded(value) if key in _SCHEMA_OF_TAG else folded_tag(value)
        for key, value in tag.items()
    }


class _Fold:
    def __init__(self, root: Any) -> None:
        self._root = root
        self._steps = 0
        #: The references whose schemas are being written in their place.
        self._inside: list[str] = []

    def fold(self, schema: Any) -> Any:
        self._step()
        if not isinstance(schema, dict):
            return schema
        if not _is_mixed(schema):
            return _finished(self._below(schema))
        used: list[str] = []
        try:
            alternatives = self._alternatives(schema, used)
            if not alternatives:
                raise CannotFold
        except CannotFold:
            return _finished(self._below(schema))
        notes = self._below({key: schema[key] for key in schema if key in _NOTES})
        with self._writing(used):
            written = [_finished(self._below(each)) for each in alternatives]
        return notes | (written[0] if len(written) == 1 else {"anyOf": written})

    def _below(self, schema: Schema) -> Schema:
        return {key: self._part(key, value) for key, value in schema.items()}

    def _part(self, key: str, value: Any) -> Any:
        if key in _NAMED_SCHEMAS and isinstance(value, dict):
            return {name: self.fold(each) for name, each in value.items()}
        if key in _SCHEMAS and isinstance(value, list):
            return [self.fold(each) for each in value]
        return self.fold(value) if key in _SCHEMA else value

    def _alternatives(self, schema: Any, used: list[str]) -> list[Schema]:
        """Return schemas without any of `_APPLIED`, one of which holds where this one does; the
        references that they were written for are added to `used`."""
        self._step()
        if isinstance(schema, bool):
            return [{}] if schema else []
        if not isinstance(schema, dict):
            raise CannotFold
        own = {key: schema[key] for key in schema if key not in _NOTES and key not in _APPLIED}
        if "const" in own and "enum" not in own:
            own["enum"] = [own.pop("const")]
        found = [own]
        for each in self._applied(schema, used):
            pairs = ((left, right) for left in found for right in each)
            found = [both for pair in pairs if (both := self._both(*pair)) is not None]
            if len(found) > _MOST_ALTERNATIVES:
                raise CannotFold
        return found

    def _applied(self, schema: Schema, used: list[str]) -> Iterator[list[Schema]]:
        """Yield, for all that has to hold beside what is the schema's own, its alternatives."""
        if "$ref" in schema:
            target = self._target(schema["$ref"])
            used.append(schema["$ref"])
            with self._writing([schema["$ref"]]):
                yield self._alternatives(target, used)
        for each in _list(schema, "allOf"):
            yield self._alternatives(each, used)
        for key in ("anyOf", "oneOf"):
            if key in schema:
                branches = _list(schema, key)
                yield [one for each in branches for one in self._alternatives(each, used)]

    def _target(self, reference: Any) -> Any:
        if not isinstance(reference, str) or reference in self._inside:
            raise CannotFold
        head, *names = reference.split("/")
        found = self._root
        for name in names:
            name = name.replace("~1", "/").replace("~0", "~")
            if head != "#" or not isinstance(found, dict) or name not in found:
                raise CannotFold
            found = found[name]
        return found

    @contextmanager
    def _writing(self, references: list[str]) -> Iterator[None]:
        count = len(self._inside)
        self._inside += references
        try:
            yield
        finally:
            del self._inside[count:]

    def _both(self, left: Schema, right: Schema) -> Schema | None:
        self._step()
        return merged(left, right)

    def _step(self) -> None:
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise _TooLarge


def _is_mixed(schema: Schema) -> bool:
    """Whether something stands beside one of `_APPLIED`, or is to hold with another."""
    applied = [key for key in _APPLIED if key in schema]
    own = any(key not in _NOTES and key not in _APPLIED for key in schema)
    return (len(applied) + own > 1 and bool(applied)) or len(_list(schema, "allOf")) > 1


def _list(schema: Schema, key: str) -> list[Any]:
    value = schema.get(key, [])
    return value if isinstance(value, list) else []


def _finished(schema: Schema) -> Schema:
    """Return a schema whose parts are folded, without what its compilers do not know and need not:
    a `format` of one's own constrains nothing, as JSON Schema has it, and a URI is never empty."""
    said = schema.get("format")
    dropped = {"format"} if isinstance(said, str) and said not in _FORMATS else set()
    if said in _NEVER_EMPTY and schema.get("minLength") in (0, 1):
        dropped = {"minLength"}
    schema = {key: value for key, value in schema.items() if key not in dropped}
    return _with_required(schema)


def _with_required(schema: Schema) -> Schema:
    """Return the schema with one for each property that it requires, where it has others."""
    known, others = schema.get("properties"), schema.get("additionalProperties", True)
    if not isinstance(known, dict) or others is False or "patternProperties" in schema:
        return schema
    missing = [name for name in schema.get("required", ()) if name not in known]
    anything = others if isinstance(others, dict) else {}
    return schema | {"properties": known | dict.fromkeys(missing, anything)} if missing else schema
