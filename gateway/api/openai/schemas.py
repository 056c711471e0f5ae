"""The fields of bodies of OpenAI's API, with vLLM's extra ones, and as lenient as vLLM: an unknown
field has no effect. A field that would change the answer and is not supported is refused."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

from msgspec.structs import replace
from pydantic import Field, StringConstraints

from contract import bounds
from contract.asked import Turn
from contract.keys import KeyRecord
from contract.messages import Sampling
from gateway.api import fields
from gateway.api.fields import (
    GenerationBody,
    Ignored,
    OnlyFalse,
    Unlimited,
    Unsupported,
)
from gateway.api.openai.constraints import GuidedFields, guided_of
from gateway.api.openai.detail import Detail
from gateway.api.openai.values import (
    ExtensionArguments,
    LogitBias,
    StreamOptions,
    TokenIds,
    Words,
)
from gateway.http.errors import invalid


class GenerationRequest(GuidedFields, GenerationBody):
    """The fields of chats and of text completions."""

    is_lenient = True

    model: fields.OnlyModel = ""
    max_tokens: bounds.Tokens | None = None
    temperature: bounds.Temperature | None = None
    top_p: bounds.TopP | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stop: fields.Stops | None = None
    seed: bounds.Seed | None = None
    presence_penalty: bounds.Penalty | None = None
    frequency_penalty: bounds.Penalty | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    top_k: bounds.TopK | None = Field(None, description="vLLM's, as all that follow to `grammar`.")
    min_p: bounds.MinP | None = None
    repetition_penalty: bounds.RepetitionPenalty | None = None
    min_tokens: fields.MinTokens | None = None
    ignore_eos: bool | None = None
    user: Ignored = None
    metadata: Ignored = None
    store: Ignored = None
    service_tier: str | None = Field(
        None, description="`flex` is the class `batch`; `priority` the best that the key may ask."
    )
    safety_identifier: Ignored = None
    prompt_cache_key: Ignored = None
    prompt_cache_retention: Ignored = None
    logit_bias: LogitBias | None = Field(
        None, description="This and the next seven are vLLM's; not every engine can do them."
    )
    stop_token_ids: TokenIds | None = None
    bad_words: Words | None = None
    allowed_token_ids: TokenIds | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    truncate_prompt_tokens: Annotated[int, Field(ge=-1, le=2**31 - 1)] | None = None
    truncation_side: Literal["left", "right"] | None = Field(
        None, description="vLLM's, for `truncate_prompt_tokens`: `right` keeps the first tokens."
    )
    cache_salt: Annotated[str, StringConstraints(min_length=1, max_length=1_024)] | None = None
    logits_processors: Unsupported = None
    spaces_between_special_tokens: bool | None = None
    use_beam_search: OnlyFalse = None
    length_penalty: Ignored = Field(None, description="vLLM's, for a search that is not supported.")
    prompt_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    return_token_ids: bool | None = None
    return_tokens_as_token_ids: bool | None = None
    kv_transfer_params: Unsupported = None
    ec_transfer_params: Unsupported = None
    watermarking: OnlyFalse = None
    logprob_token_ids: Unsupported = None
    repetition_detection: Unsupported = None
    thinking_token_budget: Unlimited = Field(None, description="vLLM's; -1 is no limit.")
    vllm_xargs: ExtensionArguments | None = Field(
        None, description="For extensions that an operator has added to vLLM."
    )

    @property
    def own_names(self) -> Mapping[str, str]:
        return {"max_tokens": "max_tokens", "min_tokens": "min_tokens", "logprobs": "logprobs"}

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def turn(self, key: KeyRecord) -> Turn:
        turn = super().turn(key)
        is_flex = self.service_tier == "flex" and self.priority_class is None
        return replace(turn, priority="batch") if is_flex else turn

    @cached_property
    def detail(self) -> Detail:
        """The details that the answer has beside its text."""
        usage = self.include_usage and self.stream_options.continuous_usage_stats  # type: ignore[union-attr]
        return Detail(
            prompt_logprobs=self.prompt_logprobs is not None and not self.stream,
            token_ids=bool(self.return_token_ids),
            usage=bool(self.stream and usage),
            by_id=bool(self.return_tokens_as_token_ids),
        )

    @property
    def told_of_prompt(self) -> int | None:
        """How many log probabilities of each token of the prompt are told; None: of none."""
        return self.prompt_logprobs

    def of_the_job(self, key_id: str) -> dict[str, Any]:
        """Return the fields of a job, beside its prompt and sampling, that both endpoints give."""
        return {
            "truncate_prompt_tokens": self.truncate_prompt_tokens or None,
            "keeps_beginning": self.truncation_side == "right",
            "cache_salt": self.cache_salt or "",
            "key_id": key_id,
            "report": self.detail.report(self.told_of_prompt),
        }

    def check_stream(self) -> None:
        """Raises `ApiError`, as vLLM does."""
        if self.stream_options is not None and not self.stream:
            raise invalid("stream_options", "needs `stream`")
        if self.stream and self.prompt_logprobs:
            raise invalid("prompt_logprobs", "not available with `stream`")

    def sampling(self, max_tokens: int | None, logprobs: int | None) -> Sampling:
        """How to choose tokens. Raises `ApiError`."""
        return Sampling(
            max_tokens=max_tokens,
            min_tokens=self.min_tokens or 0,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            repetition_penalty=self.repetition_penalty,
            seed=self.seed,
            stop=self.stop or (),
            ignore_eos=bool(self.ignore_eos),
            n=self.n or 1,
            logprobs=logprobs,
            guided=guided_of(self),
            logit_bias=self.logit_bias or None,
            stop_token_ids=tuple(self.stop_token_ids or ()),
            bad_words=tuple(self.bad_words or ()),
            allowed_token_ids=tuple(self.allowed_token_ids or ()),
            include_stop_str_in_output=bool(self.include_stop_str_in_output),
            skip_special_tokens=self.skip_special_tokens is not False,
            spaces_between_special_tokens=self.spaces_between_special_tokens is not False,
            vllm_xargs=self.vllm_xargs or None,
            names_tokens_by_id=bool(self.return_tokens_as_token_ids),
        )
