"""Constraints on answers in vLLM's words, and the library by which it compiles them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final

from contract.asked import Guided
from contract.config import ModelConfig
from contract.messages import ErrorCode
from workers.engine import JobRejected
from workers.engines.prompts import choices_of
from workers.engines.shared.schemas import folded, folded_tag
from workers.engines.vllm.requests import REFUSALS

XGRAMMAR: Final = "xgrammar"
GUIDANCE: Final = "guidance"
_OTHER_LIBRARY: Final = (
    'guidance may know it: `"structured_outputs_config": {"backend": "guidance"}` in the '
    "`engine_args` of the model's entry"
)


def choose_library(model: ModelConfig, config: Any, tokenizer: Any) -> str:
    """Return the library that compiles an engine's constraints; name one in vLLM's configuration
    if the model's entry does not.

    vLLM's own `auto` chooses for each request, but its engine core has one library for all, that
    of its first request (seen in 0.32). What was checked for another one is then not kept to, or
    fails: one client's schema could end all others' tool calls. Tools that must be called become
    structural tags, which guidance cannot read; of the two only it knows the special tokens of
    Mistral's newer tokenizers.
    """
    outputs = getattr(config, "structured_outputs_config", None)
    if outputs is None:  # Before 0.11.
        return ""
    asked = model.engine_args.get("structured_outputs_config")
    if not (isinstance(asked, dict) and "backend" in asked):
        outputs.backend = GUIDANCE if getattr(tokenizer, "is_tekken", False) else XGRAMMAR
    return str(outputs.backend)


def guided_settings(guided: Guided | None) -> dict[str, Any]:
    """The argument of `SamplingParams` that constrains the output, as this release names it."""
    if guided is None:
        return {}
    value: Any = _folded(guided.kind, guided.value)
    match guided.kind:
        case "json_object":
            value = True
        case "choice":
            value = choices_of(guided.value)
    try:
        from vllm.sampling_params import StructuredOutputsParams
    except ImportError:
        from vllm.sampling_params import GuidedDecodingParams

        return {"guided_decoding": GuidedDecodingParams(**{guided.kind: value})}
    return {"structured_outputs": StructuredOutputsParams(**{guided.kind: value})}


def folded_outputs(outputs: Any) -> Any:
    """Return what a parser of vLLM's constrains an answer to, with the schemas of tools folded."""
    given = {kind: getattr(outputs, kind) for kind in ("json", "structural_tag")}
    return replace(
        outputs, **{kind: _folded(kind, value) for kind, value in given.items() if value}
    )


def _folded(kind: str, value: Any) -> Any:
    if kind == "json":
        return folded(json.loads(value) if isinstance(value, str) else value)
    if kind == "structural_tag":
        return json.dumps(folded_tag(json.loads(value)))
    return value


def check_tag(outputs: Any, library: str) -> None:
    """Raises `JobRejected` for a structural tag where guidance compiles: of the newer form vLLM
    (0.32) would say that it lacks a key, and the older one ends every answer at once if a trigger
    stands in angle brackets (`findings/llguidance-struct-tag-triggers.sh`)."""
    if getattr(outputs, "structural_tag", None) and library == GUIDANCE:
        message = (
            "guidance, which compiles this model's constraints, cannot keep to structural tags; "
            "`strict` tools with the choice `auto` are such tags, too"
        )
        raise JobRejected(ErrorCode.INVALID_REQUEST, message)


def refusal(error: Exception, params: Any, library: str) -> JobRejected:
    """Return what vLLM says of a request that it will not run, and who could do it."""
    outputs = getattr(params, "structured_outputs", None)
    said = str(error)
    if outputs is not None and library == XGRAMMAR and not _is_known_to_xgrammar(outputs):
        said = f"{said.rstrip('.')}; {_OTHER_LIBRARY}"
    return JobRejected(ErrorCode.INVALID_REQUEST, said)


def _is_known_to_xgrammar(outputs: Any) -> bool:
    """Whether it is not for this constraint that a request was refused; guidance knows no tags."""
    from vllm import SamplingParams
    from vllm.v1.structured_output.backend_xgrammar import validate_xgrammar_grammar

    if outputs.structural_tag:
        return True
    try:
        validate_xgrammar_grammar(SamplingParams(structured_outputs=replace(outputs)))
    except REFUSALS:
        return False
    return True
