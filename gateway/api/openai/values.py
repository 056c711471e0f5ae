"""Values of the fields of OpenAI's and vLLM's bodies."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from gateway.api import fields
from gateway.api.fields import Ignored, LenientBody

_LARGEST_ARGUMENTS_BYTES: Final = 65_536
_MOST_TOKEN_IDS: Final = 1_024
MOST_PROMPTS: Final = 2_048
#: Arguments of a chat template that are not for clients to give so.
_TEMPLATE_OWN: Final = frozenset(
    {
        "messages",
        "conversation",
        "tools",
        "chat_template",
        "documents",
        "tokenize",
        "return_dict",
        "add_generation_prompt",
        "continue_final_message",
    }
)


def _parsed(value: Any) -> Any:
    """vLLM takes a schema as text, too."""
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        raise PydanticCustomError("not_json", "not valid JSON") from None


def _several(value: Any) -> Any:
    """One text, or the tokens of one, is a list of one."""
    match value:
        case str() | [int(), *_]:
            return [value]
        case None:
            raise PydanticCustomError("no_prompt", "must be a text, token ids, or a list of these")
        case _:
            return value


def _small(value: dict[str, Any]) -> dict[str, Any]:
    """Bound the variables of a template, which run through a program of the model's authors."""
    for name in value:
        if name in _TEMPLATE_OWN:
            raise PydanticCustomError("own", "`{name}` has a field of its own", {"name": name})
    if len(orjson.dumps(value)) > _LARGEST_ARGUMENTS_BYTES:
        raise PydanticCustomError("too_large", "too large")
    return value


JsonSchema = Annotated[
    fields.JsonSchema,
    BeforeValidator(_parsed, json_schema_input_type=dict[str, Any] | str),
]
StructuralTag = Annotated[
    fields.StructuralTag,
    BeforeValidator(_parsed, json_schema_input_type=dict[str, Any] | str),
]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
TokenIds = Annotated[list[TokenId], Field(max_length=_MOST_TOKEN_IDS, fail_fast=True)]
PromptText = Annotated[str, StringConstraints(min_length=1)]
PromptIds = Annotated[list[TokenId], Field(min_length=1, max_length=1_000_000, fail_fast=True)]
#: One or several, each as text or as its tokens.
Prompts = Annotated[
    list[PromptText | PromptIds],
    Field(min_length=1, max_length=MOST_PROMPTS, fail_fast=True),
    BeforeValidator(_several, json_schema_input_type=str | list[str] | list[int] | list[list[int]]),
]
#: Templates know roles of their own, such as Llama 3's `ipython`.
OwnRole = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Documents = Annotated[list[dict[str, str]], Field(max_length=128, fail_fast=True)]


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Texts = Annotated[
    list[PromptText],
    Field(min_length=1, max_length=MOST_PROMPTS, fail_fast=True),
    BeforeValidator(_as_list, json_schema_input_type=str | list[str]),
]
Words = Annotated[list[fields.ChoiceText], Field(max_length=128, fail_fast=True)]
_NAMED_AT_ONCE: Final = 8


def _by_token(value: Any) -> Any:
    """Refuse keys that are no token ids, all of them together, as vLLM does."""
    if not isinstance(value, dict):
        return value
    wrong = [str(key)[:64] for key in value if not str(key).isdecimal()]
    if wrong:
        names = ", ".join(f"`{each}`" for each in wrong[:_NAMED_AT_ONCE])
        more = ", ..." if len(wrong) > _NAMED_AT_ONCE else ""
        message = "keys are token ids, and these are none: {names}"
        raise PydanticCustomError("no_token_ids", message, {"names": names + more})
    return value


LogitBias = Annotated[
    dict[TokenId, Annotated[float, Field(ge=-100, le=100)]],
    Field(max_length=_MOST_TOKEN_IDS),
    BeforeValidator(_by_token),
]


_Scalar = Annotated[str, StringConstraints(max_length=4_096)] | int | float
#: Names that vLLM's own parts read among these arguments, where a wrong one would end the engine.
_READ_BY_VLLM: Final = frozenset(
    {"kv_transfer_params", "ec_transfer_params", "kv_cache_report_mode"}
)


def _of_extensions(value: dict[str, Any]) -> dict[str, Any]:
    for name in value.keys() & _READ_BY_VLLM:
        raise PydanticCustomError("unsupported", "`{name}` is not supported", {"name": name})
    return value


ExtensionArguments = Annotated[
    dict[
        Annotated[str, StringConstraints(max_length=128)],
        _Scalar | Annotated[list[_Scalar], Field(max_length=_MOST_TOKEN_IDS, fail_fast=True)],
    ],
    Field(max_length=64),
    AfterValidator(_of_extensions),
]
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
TemplateArguments = Annotated[dict[str, Any], AfterValidator(_small)]


class StreamOptions(LenientBody):
    place = "stream_options."
    include_usage: bool | None = None
    include_obfuscation: Ignored = None
    continuous_usage_stats: bool | None = Field(
        None, description="vLLM's: the usage so far in every chunk, with `include_usage`."
    )
