"""Requests to a server of the OpenAI API."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from contract.asked import Guided, MediaKind, Template
from contract.messages import ErrorCode, Job, Sampling
from workers.engine import ALL_SAMPLING, JobRejected, check_sampling
from workers.engines.llama_cpp_wire import LLAMA_CPP, for_llama_cpp
from workers.engines.openai.pooling import pooling_asked, pooling_path
from workers.engines.openai.tools import messages_asked, tools_asked
from workers.engines.openai.upstream import Server
from workers.engines.prompts import choices_of
from workers.engines.shared.schemas import folded, folded_tag

_SAMPLING: Final = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
)


#: Fields beside a prompt that only vLLM's server takes.
_OF_VLLM: Final = ("truncate_prompt_tokens", "add_special_tokens")
_TAKES_VIDEO: Final = ("vllm", "sglang")
_TAKES_TEMPLATE_ARGUMENTS: Final = ("vllm", "sglang", LLAMA_CPP)
_TAKES_STRUCTURAL_TAGS: Final = ("vllm", "sglang", "tensorrt_llm")
#: Which forgets a part of some schemas, if they are not folded.
_COMPILES_WITH_XGRAMMAR: Final = ("vllm", "sglang", "tensorrt_llm")


def media_taken(server: Server) -> tuple[MediaKind, ...]:
    """Return what a server is sent beside text; whether its model takes it, it says itself."""
    if server.kind == LLAMA_CPP:
        return ()
    return ("image", "audio", "video") if server.kind in _TAKES_VIDEO else ("image", "audio")


def request_path(job: Job, server: Server) -> str:
    """Return where a job is asked for, below the API's address."""
    if job.pooling is not None:
        return pooling_path(job.pooling, server)
    return "/completions" if job.messages is None else "/chat/completions"


def request_body(
    job: Job, server: Server, max_tokens: int | None, salt: str | None = None
) -> dict[str, Any]:
    """Return the body that asks for a job's answer, apart from the model's name there. `salt` keeps
    its prompt apart in the server's cache, where that can be asked for. Raises `JobRejected`."""
    if job.pooling is not None:
        return pooling_asked(job, job.pooling, server)
    asked = job.sampling
    takes = ALL_SAMPLING if server.kind == "vllm" else frozenset({"logit_bias"})
    check_sampling(asked, takes, "the server behind this model")
    given = {name: getattr(asked, name) for name in _SAMPLING}
    body = {name: value for name, value in given.items() if value is not None}
    body |= {
        "stream": True,
        **_prompt(job, server),
        **_options(asked, max_tokens),
        **tools_asked(job),
    }
    if asked.logprobs is not None:
        body |= _logprobs_wanted(asked.logprobs, job.messages is not None)
    if job.template is not None:
        body |= _template(job.template, server)
    if asked.guided is not None:
        body |= _guided(asked.guided, server)
    if server.kind == "vllm" and salt is not None:
        body["cache_salt"] = salt
    return for_llama_cpp(body) if server.kind == LLAMA_CPP else body


def _prompt(job: Job, server: Server) -> dict[str, Any]:
    """Raises `JobRejected` for what a server of this kind cannot do with a prompt, or would leave
    out without a word."""
    if job.report is not None:
        message = "the server behind this model tells nothing of its prompts"
        raise JobRejected(ErrorCode.INVALID_REQUEST, message)
    taken = {"suffix": server.kind != LLAMA_CPP} | dict.fromkeys(_OF_VLLM, server.kind == "vllm")
    body = {name: getattr(job, name) for name in taken if getattr(job, name) is not None}
    for name in body:
        if not taken[name]:
            message = f"`{name}`: the server behind this model cannot do that"
            raise JobRejected(ErrorCode.INVALID_REQUEST, message)
    if job.truncate_prompt_tokens is not None and job.keeps_beginning:
        body["truncation_side"] = "right"
    if job.messages is not None:
        return body | {"messages": messages_asked(job.messages)}
    return body | {"prompt": job.prompt if job.prompt_ids is None else job.prompt_ids}


def _template(template: Template, server: Server) -> dict[str, Any]:
    """Raises `JobRejected` for what only some servers have a word for."""
    arguments = json.loads(template.arguments) if template.arguments else {}
    effort = arguments.pop("reasoning_effort", None)
    body: dict[str, Any] = {} if effort is None else {"reasoning_effort": effort}
    if arguments.keys() - ({"enable_thinking"} if effort else set()):
        body["chat_template_kwargs"] = arguments
    if not template.add_generation_prompt or template.continue_final_message:
        body["add_generation_prompt"] = template.add_generation_prompt
        body["continue_final_message"] = template.continue_final_message
    if server.kind not in _TAKES_TEMPLATE_ARGUMENTS and body.keys() - {"reasoning_effort"}:
        name = server.kind or "of an unknown kind"
        message = f"the server behind this model ({name}) takes no arguments for its chat template"
        raise JobRejected(ErrorCode.INVALID_REQUEST, message)
    return body


def _options(asked: Sampling, max_tokens: int | None) -> dict[str, Any]:
    """Only what differs from every server's default: strict ones refuse names they lack."""
    options: dict[str, tuple[Any, bool]] = {
        "max_tokens": (max_tokens, max_tokens is not None),
        "min_tokens": (asked.min_tokens, asked.min_tokens > 0),
        "stop": (asked.stop, bool(asked.stop)),
        "ignore_eos": (True, asked.ignore_eos),
        "n": (asked.n, asked.n > 1),
        "logit_bias": (asked.logit_bias, asked.logit_bias is not None),
        "stop_token_ids": (asked.stop_token_ids, bool(asked.stop_token_ids)),
        "bad_words": (asked.bad_words, bool(asked.bad_words)),
        "allowed_token_ids": (asked.allowed_token_ids, bool(asked.allowed_token_ids)),
        "include_stop_str_in_output": (True, asked.include_stop_str_in_output),
        "skip_special_tokens": (False, not asked.skip_special_tokens),
        "spaces_between_special_tokens": (False, not asked.spaces_between_special_tokens),
        "vllm_xargs": (asked.vllm_xargs, bool(asked.vllm_xargs)),
        "return_tokens_as_token_ids": (True, asked.names_tokens_by_id),
    }
    return {name: value for name, (value, wanted) in options.items() if wanted}


def _logprobs_wanted(alternatives: int, chat: bool) -> dict[str, Any]:
    return {"logprobs": True, "top_logprobs": alternatives} if chat else {"logprobs": alternatives}


def _guided(guided: Guided, server: Server) -> dict[str, Any]:
    """The constraint in the words of the server: beyond JSON, each kind has its own."""
    match guided.kind:
        case "json_object":
            return {"response_format": {"type": "json_object"}}
        case "json":
            schema = json.loads(guided.value)
            if server.kind in _COMPILES_WITH_XGRAMMAR:
                schema = folded(schema)
            return {"response_format": _schema_format(schema, server)}
        case "structural_tag" if server.kind in _TAKES_STRUCTURAL_TAGS:
            return {"response_format": folded_tag(json.loads(guided.value))}
        case _ if server.kind == "vllm":
            return _vllm_guided(guided, server)
        case "choice":
            return _grammar("grammar", _grammar_of(choices_of(guided.value)), server)
        case _:
            return _grammar(guided.kind, guided.value, server)


def _schema_format(schema: Any, server: Server) -> dict[str, Any]:
    if server.kind == "tensorrt_llm":
        return {"type": "json", "schema": schema}
    named = {"name": "answer", "schema": schema, "strict": True}
    return {"type": "json_schema", "json_schema": named}


def _vllm_guided(guided: Guided, server: Server) -> dict[str, Any]:
    value: Any = choices_of(guided.value) if guided.kind == "choice" else guided.value
    number = re.match(r"(\d+)\.(\d+)", server.version)
    if number is not None and (int(number[1]), int(number[2])) < (0, 11):
        return {f"guided_{guided.kind}": value}
    return {"structured_outputs": {guided.kind: value}}


def _grammar(kind: str, value: str, server: Server) -> dict[str, Any]:
    match server.kind, kind:
        case "tensorrt_llm", "regex":
            return {"response_format": {"type": "regex", "regex": value}}
        case "tensorrt_llm", "grammar":
            return {"response_format": {"type": "ebnf", "ebnf": value}}
        case "sglang", "regex":
            return {"regex": value}
        case "sglang", "grammar":
            return {"ebnf": value}
        case _, "grammar" if server.kind == LLAMA_CPP:
            return {"grammar": value}
    name = server.kind or "of an unknown kind"
    message = f"the server behind this model ({name}) takes no {kind} as a constraint"
    raise JobRejected(ErrorCode.INVALID_REQUEST, message)


def _grammar_of(choices: list[str]) -> str:
    return "root ::= " + " | ".join(json.dumps(choice, ensure_ascii=False) for choice in choices)
