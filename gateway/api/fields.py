"""Parts of request bodies: bounded fields, and the naming of a bad one."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Final, TypeVar

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError, from_json

from contract.bounds import MOST_STOPS, StopText
from contract.messages import Job
from gateway.api.constraint_bounds import (
    TooComplex,
    check_pattern,
    check_schema,
    check_structural_tag,
)
from gateway.api.turns import TurnBody
from gateway.http.errors import ApiError, invalid

_MOST_TURNS: Final = 4_096
_LONGEST_PATTERN: Final = 8_192
_LARGEST_SCHEMA_BYTES: Final = 65_536
#: Of the names of fields without effect that an answer tells.
_MOST_IGNORED: Final = 20
_LONGEST_IGNORED: Final = 64
_IN_WORDS_OF_JSON: Final = {
    "missing": "Required",
    "model_type": "Input should be an object",
    "dict_type": "Input should be an object",
    "list_type": "Input should be an array",
    "tuple_type": "Input should be an array",
}


class StrictBody(BaseModel):
    """A body of ew's own API: no unknown fields, no other types, no NaN."""

    model_config = ConfigDict(
        defer_build=True,
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )

    @model_validator(mode="before")
    @classmethod
    def _knows_all_keys(cls, value: Any) -> Any:
        """One error for the first unknown key; pydantic itself makes one for each of them."""
        if isinstance(value, dict) and not value.keys() <= _known_keys(cls):
            unknown = next(key for key in value if key not in _known_keys(cls))
            raise PydanticCustomError("unknown_key", "unknown field", {"key": unknown})
        return value


class LenientBody(BaseModel):
    """A body of another server's API: numbers as text, and unknown fields, which
    have no effect. Those are noted in the context of the validation, a set of names."""

    #: Where it is within the body.
    place: ClassVar[str] = ""
    model_config = ConfigDict(
        defer_build=True, extra="ignore", frozen=True, allow_inf_nan=False, protected_namespaces=()
    )

    @model_validator(mode="before")
    @classmethod
    def _notes_unknown_keys(cls, value: Any, info: ValidationInfo) -> Any:
        ignored: set[str] | None = info.context
        if isinstance(value, dict) and ignored is not None:
            for key in value.keys() - _known_keys(cls):
                if len(ignored) >= _MOST_IGNORED:
                    break
                ignored.add(f"{cls.place}{key:.{_LONGEST_IGNORED}}")
        return value


@cache
def _known_keys(form: type[BaseModel]) -> frozenset[str]:
    return frozenset(field.alias or name for name, field in form.model_fields.items())


class GenerationBody(TurnBody):
    """A body that asks for a generation. A lenient one gets fewer tokens where it asks for more."""

    is_lenient: ClassVar[bool] = False

    @property
    @abstractmethod
    def own_names(self) -> Mapping[str, str]:
        """The names in this body of the fields that the operator's limits are about."""

    @abstractmethod
    def job(self, job_id: str, key_id: str) -> Job:
        """The job asked for; of several, the first. Raises `ApiError`."""

    def jobs(self, job_id: str, key_id: str) -> list[Job]:
        """One for each prompt. Raises `ApiError`."""
        return [self.job(job_id, key_id)]


Body = TypeVar("Body", bound=BaseModel)
Constraint = TypeVar("Constraint", str, dict[str, Any])


def _stops(value: Any) -> Any:
    """OpenAI takes one string as well as a list."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def _or_nothing(value: Any) -> Any:
    return "" if value is None else value


def _nothing(value: Any) -> None:
    if value:
        raise PydanticCustomError("unsupported", "not supported")


def only(supported: Any) -> Any:
    """The type of a field that may say what happens anyway."""

    def check(value: Any) -> None:
        if value is not None and value != supported:
            only = orjson.dumps(supported).decode()
            raise PydanticCustomError("unsupported", "only {only} is supported", {"only": only})

    return Annotated[Any, AfterValidator(check), WithJsonSchema({"const": supported})]


def _schema(value: dict[str, Any]) -> dict[str, Any]:
    return _bounded(check_schema, _small("schema", value))


def _structural_tag(value: dict[str, Any]) -> dict[str, Any]:
    return _bounded(check_structural_tag, _small("structural tag", value))


def _small(name: str, value: dict[str, Any]) -> dict[str, Any]:
    try:
        encoded = orjson.dumps(value)
    except orjson.JSONEncodeError:
        raise PydanticCustomError("number", "a number needs more than 64 bits") from None
    if len(encoded) > _LARGEST_SCHEMA_BYTES:
        raise PydanticCustomError("too_large", "the {name} is too large", {"name": name})
    return value


def _pattern(value: str) -> str:
    return _bounded(check_pattern, value)


def _bounded(check: Callable[[Constraint], None], value: Constraint) -> Constraint:
    try:
        check(value)
    except TooComplex as error:
        problem = {"problem": str(error)}
        raise PydanticCustomError("too_complex", "too complex: {problem}", problem) from None
    return value


Stops = Annotated[
    tuple[StopText, ...],
    Field(max_length=MOST_STOPS, fail_fast=True),
    BeforeValidator(_stops, json_schema_input_type=StopText | list[StopText]),
]
Pattern = Annotated[
    str,
    StringConstraints(min_length=1, max_length=_LONGEST_PATTERN),
    AfterValidator(_pattern),
]
JsonSchema = Annotated[dict[str, Any], AfterValidator(_schema)]
StructuralTag = Annotated[dict[str, Any], AfterValidator(_structural_tag)]
Unsupported = Annotated[Any, AfterValidator(_nothing), WithJsonSchema({"const": None})]
OnlyFalse = only(False)
#: A bound that may be left out by -1, as vLLM has it.
Unlimited = only(-1)
Ignored = Annotated[Any, WithJsonSchema({"description": "Accepted, and without effect."})]
ChoiceText = Annotated[str, StringConstraints(min_length=1, max_length=1_024)]
Choices = Annotated[list[ChoiceText], Field(min_length=1, max_length=256, fail_fast=True)]
Turn = TypeVar("Turn", bound=BaseModel)
Turns = Annotated[list[Turn], Field(min_length=1, max_length=_MOST_TURNS, fail_fast=True)]
#: Of a body that may have none.
AnyTurns = Annotated[list[Turn], Field(max_length=_MOST_TURNS, fail_fast=True)]
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=96)]
#: A lenient body may leave it out where its key may use one model.
OnlyModel = Annotated[
    str,
    StringConstraints(max_length=96),
    BeforeValidator(_or_nothing),
    Field(description="May be left out if it is the only model that the key may use."),
]
MinTokens = Annotated[int, Field(ge=0, le=1_000_000)]


def parse(form: type[Body], body: bytes, ignored: set[str] | None = None) -> Body:
    """A request body; what it holds without effect is added to `ignored`. Raises `ApiError`, which
    names the first field that is wrong.

    However wrong it is, the work stays in proportion to its size: lists stop at their first bad
    item or at their bound, objects at their first unknown key.
    """
    try:
        content = from_json(body, allow_inf_nan=False, cache_strings="keys")
        return form.model_validate(content, context=ignored)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
    except ValueError as error:
        raise ApiError("invalid_json", f"the body is not valid JSON: {error}") from None
    raise _explained(problem)


#: Where a field may have several forms, pydantic names the form, too: `literal['none','auto']`.
_FORM: Final = re.compile(r"[a-z-]+\[.*\]$")


def _explained(problem: ErrorDetails) -> ApiError:
    place = [part for part in problem["loc"] if not _FORM.match(str(part))]
    if problem["type"] == "unknown_key":
        place.append(problem["ctx"]["key"])
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(
        "."
    )
    message = _IN_WORDS_OF_JSON.get(problem["type"], problem["msg"])
    if not field:
        return ApiError("invalid_request", message)
    return invalid(field, message[:1].lower() + message[1:])
