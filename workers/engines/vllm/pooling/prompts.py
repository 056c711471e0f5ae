"""The prompts of a pooling model: texts, and pairs of them, as tokens of vLLM's server."""

from __future__ import annotations

import asyncio
import copy
import threading
from pathlib import Path
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from contract.asked import Pooling
from contract.config import ModelConfig
from contract.messages import ErrorCode, Job
from workers.engine import CannotServe, JobRejected
from workers.engines.prompts import Prompts, template_arguments
from workers.engines.shared.scores import pairs

#: -1 stands for the most that there may be.
_NO_BOUND: Final = 2**31


class PoolingPrompt(NamedTuple):
    """Tokens; of a pair, also the place where the second text begins, for models that mark it."""

    ids: list[int]
    second: int | None = None


class PoolingPrompts:
    """Tokenises the inputs of pooling jobs, in a thread, with a copy of the tokenizer: to cut a
    text, the library changes its tokenizer, which another thread may be using."""

    def __init__(
        self, tokenizer: Any, model: Any, prompts: Prompts, most: int, template: str | None
    ) -> None:
        """`most` tokens are the longest input; `template` is that of the operator for pairs."""
        self._tokenizer = copy.deepcopy(tokenizer)
        self._lock = threading.Lock()
        self._chats = prompts
        self._model = model
        self._template = template
        self._lowers = bool((model.encoder_config or {}).get("do_lower_case"))
        self._most = most

    async def of(self, job: Job, asked: Pooling) -> list[PoolingPrompt]:
        """Return one for each input. Raises `JobRejected`."""
        if job.messages is not None:
            return [PoolingPrompt(await self._chats.token_ids(job))]
        if asked.input_type:
            asked = replace(asked, inputs=self._instructed(asked))
        return await asyncio.to_thread(self._locked, job, asked)

    async def of_pairs(self, job: Job, asked: Pooling) -> list[PoolingPrompt]:
        """Return one for each pair of texts. Raises `JobRejected`."""
        return await asyncio.to_thread(self._locked_pairs, job, asked)

    def _instructed(self, asked: Pooling) -> tuple[str | tuple[int, ...], ...]:
        """Return the inputs, each after what the model is to be told of its purpose."""
        known = instructions_of(self._model)
        if asked.input_type not in known:
            names = ", ".join(f"`{name}`" for name in sorted(known)) or "none"
            message = f"`input_type`: this model knows no `{asked.input_type}`; it knows {names}"
            raise JobRejected(ErrorCode.INVALID_REQUEST, message)
        before = known[asked.input_type]
        return tuple(before + each if isinstance(each, str) else each for each in asked.inputs)

    def _locked(self, job: Job, asked: Pooling) -> list[PoolingPrompt]:
        with self._lock:
            limits = (asked.query_tokens, asked.document_tokens)
            return [
                self._one(each, limits[number >= asked.queries], job, asked)
                for number, each in enumerate(asked.inputs)
            ]

    def _locked_pairs(self, job: Job, asked: Pooling) -> list[PoolingPrompt]:
        texts = [each if isinstance(each, str) else "" for each in asked.inputs]
        with self._lock:
            return [self._pair(texts[one], texts[other], job, asked) for one, other in pairs(asked)]

    def _one(
        self, given: str | tuple[int, ...], most: int, job: Job, asked: Pooling
    ) -> PoolingPrompt:
        if not isinstance(given, str):
            return PoolingPrompt(self._checked(self._cut_ids(list(given), job, asked)))
        return self._encoded(job, asked, self._shortened(given, most))

    def _pair(self, query: str, document: str, job: Job, asked: Pooling) -> PoolingPrompt:
        """As vLLM's cross-encoders do it: by the model's own template, else with the separator
        of its tokenizer, else one after the other."""
        query = self._shortened(query, asked.query_tokens)
        document = self._shortened(document, asked.document_tokens)
        written = self._by_template(query, document, job)
        if written is not None:
            return self._encoded(job, asked, written)
        if getattr(self._model, "use_sep_token", True):
            return self._encoded(job, asked, query, document)
        return self._encoded(job, asked, query + document)

    def _by_template(self, query: str, document: str, job: Job) -> str | None:
        """Return a pair in the words of the operator's template, or of the architecture. That of
        the tokenizer is for chats."""
        if self._template is None:
            from vllm.model_executor.model_loader import get_model_cls

            architecture: Any = get_model_cls(self._model)
            if not getattr(architecture, "supports_score_template", False):
                return None
            return str(architecture.get_score_template(query, document))
        turns = [{"role": "query", "content": query}, {"role": "document", "content": document}]
        arguments = template_arguments(job) if job.template else {}
        arguments |= {"chat_template": self._template, "tokenize": False}
        try:
            return str(self._tokenizer.apply_chat_template(turns, **arguments))
        # Templates are programs of the model's authors: they raise what they like.
        except Exception as error:
            message = f"the model's `score_template` refused the texts: {error}"
            raise JobRejected(ErrorCode.INVALID_REQUEST, message) from error

    def _encoded(
        self, job: Job, asked: Pooling, text: str, second: str | None = None
    ) -> PoolingPrompt:
        how: dict[str, Any] = {}
        if job.add_special_tokens is not None:
            how["add_special_tokens"] = job.add_special_tokens
        if job.truncate_prompt_tokens is not None and asked.keeps is None:
            how |= {"truncation": True, "max_length": self._bound(job.truncate_prompt_tokens)}
        if self._lowers:
            text, second = text.lower(), second.lower() if second else second
        read = self._tokenizer(text, second, **how) if second else self._tokenizer(text, **how)
        ids = self._checked(self._cut_ids(list(read["input_ids"]), job, asked))
        types = self._cut_ids(list(read.get("token_type_ids") or ()), job, asked)
        return PoolingPrompt(ids, _first_one(types) if second and types else None)

    def _cut_ids(self, ids: list[int], job: Job, asked: Pooling) -> list[int]:
        if job.truncate_prompt_tokens is None:
            return ids
        bound = self._bound(job.truncate_prompt_tokens)
        side = {"first": "right", "last": "left"}.get(asked.keeps or "")
        if (side or self._tokenizer.truncation_side) == "left":
            return ids[-bound:]
        return ids[:bound]

    def _bound(self, asked: int) -> int:
        return min(asked % _NO_BOUND, self._most)

    def _checked(self, ids: list[int]) -> list[int]:
        if not ids:
            raise JobRejected(ErrorCode.INVALID_REQUEST, "the input is empty")
        if len(ids) > self._most:
            message = f"an input has {len(ids)} tokens; this model takes {self._most}"
            raise JobRejected(ErrorCode.PROMPT_TOO_LONG, message)
        return ids

    def _shortened(self, text: str, most: int) -> str:
        """Return the beginning of a text that has so many tokens; all of it if 0. What is left of
        a text may have more tokens than it had of the whole, hence again."""
        while most and text:
            read = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            places = read["offset_mapping"]
            if len(places) <= most:
                break
            end = min(places[most - 1][1], places[most][0])
            text = text[: min(end, len(text) - 1)]
        return text


def score_template(model: ModelConfig) -> str | None:
    """Return the operator's template for pairs, if there is one. Raises `CannotServe`."""
    try:
        return Path(model.score_template).read_text() if model.score_template else None
    except (OSError, ValueError) as error:
        raise CannotServe(f"`score_template`: {error}") from error


def instructions_of(model: Any) -> dict[str, str]:
    """Return what a model's inputs begin with, by their purpose: its configuration says so, or
    that of Sentence Transformers beside it."""
    found = getattr(model.hf_config, "task_instructions", None)
    if not found:
        from vllm.transformers_utils import repo_utils

        name = "config_sentence_transformers.json"
        try:
            read = repo_utils.get_hf_file_to_dict(name, str(model.model), model.revision)
        except (ValueError, OSError):
            read = None
        found = (read or {}).get("prompts")
    named = found.items() if isinstance(found, dict) else ()
    return {name: text for name, text in named if isinstance(text, str)}


def _first_one(types: list[int]) -> int:
    """Return where the second text begins; the end if it was cut off."""
    return types.index(1) if 1 in types else len(types)
