"""Chats that vLLM writes itself."""

from __future__ import annotations

import asyncio
from typing import Any

from workers.engines.prompts import ChatWriter, Turns


def chat_writer(renderer: Any) -> ChatWriter | None:
    """vLLM's own way to write a chat, where it is not by a Hugging Face template (Mistral's
    tokenizers, DeepSeek V3.2, ...). Older releases have no renderers."""
    if renderer is None or type(renderer).__name__ == "HfRenderer":
        return None
    from vllm.renderers import ChatParams, TokenizeParams

    def write(turns: Turns, arguments: dict[str, Any], adds_special: bool) -> list[int]:
        params = ChatParams(chat_template_kwargs=arguments)
        tokens = TokenizeParams(max_total_tokens=None, add_special_tokens=True)
        more = (tokens,) if adds_special else ()
        _, prompts = renderer.render_chat([turns], params, *more)
        return list(prompts[0]["prompt_token_ids"])

    return write


async def tokenizer_of(engine: Any) -> Any:
    """vLLM's own Hugging Face tokenizer; releases differ in whether it must be awaited."""
    found: Any = engine.get_tokenizer()
    return await found if asyncio.iscoroutine(found) else found
