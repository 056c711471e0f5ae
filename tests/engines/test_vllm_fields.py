"""Fields of vLLM's bodies: ew knows all that change an answer, be it to refuse them by name."""

from __future__ import annotations

import json
from typing import Final

import pytest

from gateway.api.anthropic.schemas import MessagesRequest
from gateway.api.fields import GenerationBody
from gateway.api.openai.chat_request import ChatCompletionRequest
from gateway.api.openai.completion_request import CompletionRequest
from gateway.api.pooling.classes import ClassifyRequest
from gateway.api.pooling.cohere import CohereEmbedRequest
from gateway.api.pooling.embeddings import EmbeddingRequest
from gateway.api.pooling.scoring import RerankRequest
from gateway.api.responses.schemas import ResponsesRequest
from tests.engines.vllm_process import VllmProcess

SCRIPT = """
import json
from vllm.entrypoints.anthropic.protocol import AnthropicMessagesRequest
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.entrypoints.pooling.classify.protocol import ClassificationChatRequest
from vllm.entrypoints.pooling.embed.protocol import CohereEmbedRequest, EmbeddingChatRequest
from vllm.entrypoints.pooling.scoring.protocol import RerankRequest

forms = [ChatCompletionRequest, CompletionRequest, ResponsesRequest, AnthropicMessagesRequest]
forms += [EmbeddingChatRequest, ClassificationChatRequest, RerankRequest, CohereEmbedRequest]
print(json.dumps([list(form.model_fields) for form in forms]))
"""
FORMS: tuple[type[GenerationBody], ...] = (
    ChatCompletionRequest,
    CompletionRequest,
    ResponsesRequest,
    MessagesRequest,
)
POOLING: tuple[type[GenerationBody], ...] = (
    EmbeddingRequest,
    ClassifyRequest,
    RerankRequest,
    CohereEmbedRequest,
)
#: They name a request, say in what pieces an answer comes, or ask for more beside it.
WITHOUT_EFFECT: Final = {
    *("request_id", "session_id", "stream_interval", "routed_experts_prompt_start"),
    *("return_token_offsets", "return_prompt_text", "return_mm_kwargs", "mm_payload"),
}
#: No images are pooled, and keys share no beginnings of prompts anyway.
WITHOUT_EFFECT_ON_NUMBERS: Final = {"media_io_kwargs", "mm_processor_kwargs", "cache_salt"}


@pytest.mark.vllm
@pytest.mark.timeout(300)
def test_no_field_that_changes_an_answer_is_ignored(vllm_process: VllmProcess) -> None:
    fields: list[list[str]] = json.loads(vllm_process.run(SCRIPT))
    for form, of_vllm in zip(FORMS + POOLING, fields, strict=True):
        known = form.model_fields.keys() | {each.alias for each in form.model_fields.values()}
        others = WITHOUT_EFFECT_ON_NUMBERS if form in POOLING else set()
        assert set(of_vllm) - known <= WITHOUT_EFFECT | others, form
