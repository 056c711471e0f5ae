"""Constraints on the output, in OpenAI's words and in both of vLLM's."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from contract.asked import Guided
from gateway.api import fields
from gateway.api.fields import Ignored, LenientBody, Unsupported
from gateway.api.guided import guided_by
from gateway.api.openai.values import JsonSchema


class JsonSchemaFormat(LenientBody):
    place = "response_format.json_schema."
    name: str = Field("", max_length=256)
    description: Ignored = None
    schema_: fields.JsonSchema = Field(alias="schema")
    strict: Ignored = None


class ResponseFormat(LenientBody):
    place = "response_format."
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("`json_schema` goes with the type `json_schema`")
        return self


class StructuredOutputs(LenientBody):
    """vLLM's; at most one."""

    place = "structured_outputs."

    json_: JsonSchema | None = Field(None, alias="json")
    json_object: bool | None = None
    regex: fields.Pattern | None = None
    choice: fields.Choices | None = None
    grammar: fields.Pattern | None = None
    structural_tag: Unsupported = None


class GuidedFields(LenientBody):
    """The fields of a request that constrain its answer."""

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: JsonSchema | None = None
    guided_regex: fields.Pattern | None = None
    guided_choice: fields.Choices | None = None
    guided_grammar: fields.Pattern | None = None


def guided_of(asked: GuidedFields) -> Guided | None:
    """The one constraint that a request gives, if it gives one. Raises `ApiError`."""
    outputs = asked.structured_outputs or StructuredOutputs()
    format_ = asked.response_format or ResponseFormat(type="text")
    schema = format_.json_schema.schema_ if format_.json_schema else None
    any_json = "" if format_.type == "json_object" else None
    guides: dict[str, Any] = {
        "response_format": ("json_object", any_json) if schema is None else ("json", schema),
        "guided_json": ("json", asked.guided_json),
        "guided_regex": ("regex", asked.guided_regex),
        "guided_choice": ("choice", asked.guided_choice),
        "guided_grammar": ("grammar", asked.guided_grammar),
        "structured_outputs.json": ("json", outputs.json_),
        "structured_outputs.json_object": ("json_object", "" if outputs.json_object else None),
        "structured_outputs.regex": ("regex", outputs.regex),
        "structured_outputs.choice": ("choice", outputs.choice),
        "structured_outputs.grammar": ("grammar", outputs.grammar),
    }
    return guided_by(**guides)
