"""Constraints on the output, in OpenAI's words and in both of vLLM's."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from contract.asked import Guided, GuidedKind
from gateway.api import fields
from gateway.api.fields import Ignored, LenientBody
from gateway.api.guided import guided_by
from gateway.api.openai.values import JsonSchema, StructuralTag

TagText = Annotated[str, StringConstraints(max_length=1_024)]


class JsonSchemaFormat(LenientBody):
    place = "response_format.json_schema."
    name: str = Field("", max_length=256)
    description: Ignored = None
    schema_: fields.JsonSchema = Field(alias="schema")
    strict: Ignored = None


class TaggedSchema(LenientBody):
    """JSON of a schema between two texts."""

    place = "response_format.structures[]."
    begin: TagText
    schema_: fields.JsonSchema = Field(alias="schema")
    end: TagText


class ResponseFormat(LenientBody):
    """OpenAI's formats, and vLLM's structural tags: of these the newer form has a `format` in
    xgrammar's words, the older one `structures` and the `triggers` that lead to them."""

    place = "response_format."
    type: Literal["text", "json_object", "json_schema", "structural_tag"]
    json_schema: JsonSchemaFormat | None = None
    format: fields.StructuralTag | None = None
    structures: Annotated[list[TaggedSchema], Field(max_length=512, fail_fast=True)] | None = None
    triggers: Annotated[list[TagText], Field(max_length=512, fail_fast=True)] | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("`json_schema` goes with the type `json_schema`")
        is_older = self.structures is not None and self.triggers is not None
        if self.type == "structural_tag" and self.format is None and not is_older:
            raise ValueError("`structural_tag` needs `format`, or `structures` and `triggers`")
        return self

    def guide(self) -> tuple[GuidedKind, Any]:
        """Return the kind of constraint, and its value; None stands for no constraint."""
        match self.type:
            case "json_object":
                return "json_object", ""
            case "json_schema":
                return "json", self.json_schema and self.json_schema.schema_
            case "structural_tag":
                return "structural_tag", self._structural_tag()
        return "json", None

    def _structural_tag(self) -> dict[str, Any]:
        if self.format is not None:
            return {"type": self.type, "format": self.format}
        structures = [each.model_dump(by_alias=True) for each in self.structures or ()]
        return {"type": self.type, "structures": structures, "triggers": self.triggers}


class StructuredOutputs(LenientBody):
    """vLLM's; at most one."""

    place = "structured_outputs."

    json_: JsonSchema | None = Field(None, alias="json")
    json_object: bool | None = None
    regex: fields.Pattern | None = None
    choice: fields.Choices | None = None
    grammar: fields.Pattern | None = None
    structural_tag: StructuralTag | None = None

    def guides(self) -> dict[str, tuple[GuidedKind, Any]]:
        """Return the kind and the value of each, by its name in a body; None stands for none."""
        return {
            "structured_outputs.json": ("json", self.json_),
            "structured_outputs.json_object": ("json_object", "" if self.json_object else None),
            "structured_outputs.regex": ("regex", self.regex),
            "structured_outputs.choice": ("choice", self.choice),
            "structured_outputs.grammar": ("grammar", self.grammar),
            "structured_outputs.structural_tag": ("structural_tag", self.structural_tag),
        }


class GuidedFields(LenientBody):
    """The fields of a request that constrain its answer."""

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: JsonSchema | None = None
    guided_regex: fields.Pattern | None = None
    guided_choice: fields.Choices | None = None
    guided_grammar: fields.Pattern | None = None


def guided_of(asked: GuidedFields, format_field: str = "response_format") -> Guided | None:
    """The one constraint that a request gives, if it gives one; `format_field` is what its API
    calls the format. Raises `ApiError`."""
    guides: dict[str, tuple[GuidedKind, Any]] = {}
    if asked.response_format is not None:
        guides[format_field] = asked.response_format.guide()
    guides["guided_json"] = ("json", asked.guided_json)
    guides["guided_regex"] = ("regex", asked.guided_regex)
    guides["guided_choice"] = ("choice", asked.guided_choice)
    guides["guided_grammar"] = ("grammar", asked.guided_grammar)
    if asked.structured_outputs is not None:
        guides |= asked.structured_outputs.guides()
    return guided_by(**guides)
