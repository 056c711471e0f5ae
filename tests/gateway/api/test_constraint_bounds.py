"""Constraints that would keep the engine's compiler busy are refused before they get there."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.constraint_bounds import (
    TooComplex,
    check_pattern,
    check_schema,
    check_structural_tag,
)
from gateway.api.fields import parse
from gateway.api.native.schemas import InferenceRequest
from gateway.api.openai.chat_request import ChatCompletionRequest
from gateway.http.errors import ApiError


def texts(count: int, **more: Any) -> dict[str, Any]:
    return {"properties": {f"p{i}": {"type": "string", **more} for i in range(count)}}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


def arrays(levels: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(levels):
        found = [found]
    return found


FINE = [
    True,
    {},
    texts(1_000),
    texts(20, maxLength=255),
    {"type": "string", "maxLength": 10**9},
    {"enum": [f"value {i}" for i in range(4_096)]},
    {"anyOf": [texts(1) for _ in range(512)]},
    nested(30),
    {"properties": {"enum": {"type": "string"}, "pattern": {"maxLength": "odd"}}},
]
TOO_MUCH = {
    "1000 properties": texts(1_001),
    "1000 properties in all": {"anyOf": [texts(501), texts(500)]},
    "512 branches": {"oneOf": [{} for _ in range(513)]},
    "4096 values": {"enum": list(range(4_097))},
    "8192 repetitions": texts(100, maxLength=256),
    "8192 repetitions of items": {"prefixItems": [{"minItems": 1e9, "maxItems": 1e9}] * 5},
    "8192 repetitions in a pattern": texts(9, pattern="^[a-z]{1,1000}$"),
    "1000 references": {"anyOf": [{"items": {"$ref": "#"}, "x": {"$ref": "#"}}] * 501},
    "20000 parts": {"x": [{} for _ in range(20_001)]},
    "nested": nested(40),
    "nested lists": {"enum": arrays(40)},
}


@pytest.mark.parametrize("schema", FINE)
def test_what_compiles_soon_is_taken(schema: Any) -> None:
    check_schema(schema)


@pytest.mark.parametrize("name", TOO_MUCH)
def test_what_would_take_long_is_refused_and_says_why(name: str) -> None:
    with pytest.raises(TooComplex, match=name.split()[0]):
        check_schema(TOO_MUCH[name])


def test_a_pattern_may_not_repeat_for_ever() -> None:
    check_pattern("[a-z]{1,1000}x{5}y{,3}z{2,}")
    check_pattern('root ::= [a-z]{0,200} "{" b\nb ::= "x{"')
    with pytest.raises(TooComplex, match="8192 repetitions"):
        check_pattern("(a{1,1000}b){900}" * 5)


TAGS_TOO_MUCH = {
    "512 branches": {"type": "or", "elements": [{"type": "any_text"}] * 513},
    "512 branches of triggers": {"type": "triggered_tags", "triggers": ["<"] * 300, "tags": []}
    | {"excludes": ["x"] * 300},
    "8192 repetitions": {"elements": [{"type": "repeat", "min": 0, "max": 5_000}] * 9},
    "8192 repetitions in a grammar": {"type": "grammar", "grammar": 'root ::= "a"{1000} ' * 9},
    "8192 repetitions in a pattern": {"type": "regex", "pattern": "a{1000}" * 9},
    "1000 properties": {"content": {"type": "json_schema", "json_schema": texts(1_001)}},
    "nested": nested(40),
}


@pytest.mark.parametrize("name", TAGS_TOO_MUCH)
def test_a_structural_tag_has_the_bounds_of_all_that_is_in_it(name: str) -> None:
    with pytest.raises(TooComplex, match=name.split()[0]):
        check_structural_tag(TAGS_TOO_MUCH[name])
    check_structural_tag({"type": "or", "elements": [{"type": "any_text"}] * 512})


@pytest.mark.parametrize(
    "body",
    [
        {"response_format": {"type": "structural_tag", "format": TAGS_TOO_MUCH["512 branches"]}},
        {"structured_outputs": {"structural_tag": TAGS_TOO_MUCH["8192 repetitions"]}},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": texts(1_001)}}},
        {"guided_json": texts(100, maxLength=256)},
        {"structured_outputs": {"json": {"enum": list(range(4_097))}}},
        {"guided_regex": "(a{1,1000}b){900}" * 5},
        {"structured_outputs": {"grammar": 'root ::= "a"{1000} ' * 9}},
    ],
)
def test_openais_api_refuses_it_by_the_name_of_the_field(body: dict[str, Any]) -> None:
    given = {"model": "m", "messages": [{"role": "user", "content": "x"}], **body}
    with pytest.raises(ApiError, match="more than") as error:
        parse(ChatCompletionRequest, orjson.dumps(given))
    assert (error.value.field or "").startswith(next(iter(body)))


@pytest.mark.parametrize("field", ["jsonSchema", "regex", "grammar"])
def test_ews_own_api_refuses_it_too(field: str) -> None:
    value = texts(1_001) if field == "jsonSchema" else "a{1000}" * 9
    with pytest.raises(ApiError, match="more than"):
        parse(InferenceRequest, orjson.dumps({"modelId": "m", "prompt": "x", field: value}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["enum", "maxLength", "pattern", "properties", "$ref"]), inner
        )
    ),
)


@given(schema=JSON)
def test_any_json_is_taken_or_refused(schema: Any) -> None:
    try:
        check_schema(schema)
    except TooComplex as error:
        assert str(error)
