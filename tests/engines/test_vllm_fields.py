"""Fields of vLLM's bodies: ew knows all that change an answer, be it to refuse them by name."""

from __future__ import annotations

import json
from typing import Final

import pytest

from gateway.api.anthropic.schemas import MessagesRequest
from gateway.api.fields import GenerationBody
from gateway.api.openai.chat_request import ChatCompletionRequest
from gateway.api.openai.completion_request import CompletionRequest
from gateway.api.responses.schemas import ResponsesRequest
from tests.engines.vllm_process import VllmProcess

SCRIPT = """
import json
from vllm.entrypoints.anthropic.protocol import AnthropicMessagesRequest
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest

forms = [ChatCompletionRequest, CompletionRequest, ResponsesRequest, AnthropicMessagesRequest]
print(json.dumps([list(form.model_fields) for form in forms]))
"""
FORMS: tuple[type[GenerationBody], ...] = (
    ChatCompletionRequest,
    CompletionRequest,
    ResponsesRequest,
    MessagesRequest,
)
#: They name a request, say in what pieces an answer comes, or ask for more beside it.
WITHOUT_EFFECT: Final = {
    *("request_id", "session_id", "stream_interval", "routed_experts_prompt_start"),
    *("return_token_offsets", "return_prompt_text", "return_mm_kwargs", "mm_payload"),
}


@pytest.mark.vllm
@pytest.mark.timeout(300)
def test_no_field_that_changes_an_answer_is_ignored(vllm_process: VllmProcess) -> None:
    fields: list[list[str]] = json.loads(vllm_process.run(SCRIPT))
    for form, of_vllm in zip(FORMS, fields, strict=True):
        known = form.model_fields.keys() | {each.alias for each in form.model_fields.values()}
        assert set(of_vllm) - known <= WITHOUT_EFFECT, form
