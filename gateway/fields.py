"""What request bodies of both APIs are made of: bounded fields, and how a bad one is named."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
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
    WithJsonSchema,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from contract.bounds import MOST_STOPS, StopText
from contract.config import LimitsConfig, ModelConfig
from contract.messages import Guided, GuidedKind, Job, Sampling
from gateway.errors import ApiError

_LONGEST_PATTERN: Final = 8_192
_LARGEST_SCHEMA_BYTES: Final = 65_536
_DEEPEST_SCHEMA: Final = 32


class StrictBody(BaseModel):
    """What a client may send: nothing unknown, nothing of another type, no NaN."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, protected_namespaces=()
    )


class GenerationBody(StrictBody):
    """A body that asks for a generation. `own_names` tells what the API calls the fields that
    the operator's limits are about."""

    own_names: ClassVar[Mapping[str, str]]

    @abstractmethod
    def job(self, job_id: str, key_id: str) -> Job:
        """The job asked for. Raises `ApiError`."""


Body = TypeVar("Body", bound=StrictBody)


def _stops(value: Any) -> Any:
    """OpenAI takes one string as well as a list."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def _text(value: Any) -> Any:
    """Chat content may come in parts, of which only text is understood."""
    return "".join(map(_text_of, value)) if isinstance(value, list) else value


def _text_of(part: Any) -> str:
    match part:
        case {"type": "text", "text": str(text)}:
            return text
        case {"type": str(kind)} if kind != "text":
            raise PydanticCustomError(
                "text_only", "only text is supported, not {kind}", {"kind": kind}
            )
        case _:
            raise PydanticCustomError("not_a_part", "not a part of text")


def _nothing(value: Any) -> None:
    if value:
        raise PydanticCustomError("unsupported", "not supported")


def _schema(value: dict[str, Any]) -> dict[str, Any]:
    if _is_deeper(value, _DEEPEST_SCHEMA):
        raise PydanticCustomError("too_deep", "the schema is nested too deeply")
    try:
        encoded = orjson.dumps(value)
    except orjson.JSONEncodeError:
        raise PydanticCustomError("number", "a number needs more than 64 bits") from None
    if len(encoded) > _LARGEST_SCHEMA_BYTES:
        raise PydanticCustomError("too_large", "the schema is too large")
    return value


def _is_deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    children = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(child, levels - 1) for child in children)


Stops = Annotated[
    tuple[StopText, ...],
    BeforeValidator(_stops, json_schema_input_type=StopText | list[StopText]),
    Field(max_length=MOST_STOPS),
]
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=_LONGEST_PATTERN)]
JsonSchema = Annotated[dict[str, Any], AfterValidator(_schema)]
Unsupported = Annotated[Any, AfterValidator(_nothing), WithJsonSchema({"const": None})]
Ignored = Annotated[Any, WithJsonSchema({"description": "Accepted, and without effect."})]
ChoiceText = Annotated[str, StringConstraints(min_length=1, max_length=1_024)]
Choices = Annotated[list[ChoiceText], Field(min_length=1, max_length=256)]
_TEXT_PART: Final = {
    "type": "object",
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
    "required": ["type", "text"],
}
TextContent = Annotated[
    str,
    BeforeValidator(_text),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": _TEXT_PART}]}),
]
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=96)]

MinTokens = Annotated[int, Field(ge=0, le=1_000_000)]


def parse(form: type[Body], body: bytes) -> Body:
    """A request body. Raises `ApiError`, which names the first field that is wrong."""
    try:
        return form.model_validate_json(body)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
    if problem["type"] == "json_invalid":
        raise ApiError("invalid_json", f"the body is not valid JSON: {problem['ctx']['error']}")
    raise _explained(problem)


def invalid(field: str, message: str) -> ApiError:
    """One field's value cannot be used."""
    return ApiError("invalid_request", f"`{field}`: {message}", field=field)


def _explained(problem: ErrorDetails) -> ApiError:
    field = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"]
    ).lstrip(".")
    if problem["type"] == "extra_forbidden":
        return invalid(field, "unknown field")
    if problem["type"] == "missing":
        return invalid(field, "required")
    if not field:
        return ApiError("invalid_request", problem["msg"])
    return invalid(field, problem["msg"][:1].lower() + problem["msg"][1:])


def guided_by(**guides: tuple[GuidedKind, Any]) -> Guided | None:
    """The one constraint that is given, if any; each is named as the API names its field, and
    `None` stands for one that is not given. Raises `ApiError` if there are several."""
    given = [(name, kind, value) for name, (kind, value) in guides.items() if value is not None]
    if len(given) > 1:
        both = f"`{given[0][0]}` and `{given[1][0]}` exclude each other"
        raise ApiError("invalid_request", both, field=given[1][0])
    for _, kind, value in given:
        return Guided(kind, value if isinstance(value, str) else orjson.dumps(value).decode())
    return None


def check_limits(
    job: Job, limits: LimitsConfig, model: ModelConfig, names: Mapping[str, str]
) -> None:
    """Bounds that the operator sets. Raises `ApiError`, with the API's own `names` of fields."""
    sampling: Sampling = job.sampling
    most = min(limits.max_output_len, model.max_output_len or limits.max_output_len)
    if sampling.max_tokens is not None and sampling.max_tokens > most:
        raise invalid(names["max_tokens"], f"at most {most} for `{job.model}`")
    if sampling.min_tokens > (sampling.max_tokens or most):
        raise invalid(names["min_tokens"], "more than the most tokens asked for")
    if sampling.n > limits.max_choices:
        raise invalid("n", f"at most {limits.max_choices}")
