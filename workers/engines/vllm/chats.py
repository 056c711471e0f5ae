"""Chats that vLLM writes itself."""

from __future__ import annotations

from typing import Any

from workers.engines.prompts import ChatWriter, Turns


def chat_writer(renderer: Any) -> ChatWriter | None:
    """vLLM's own way to write a chat, where it is not by a Hugging Face template (Mistral's
    tokenizers, DeepSeek V3.2, ...). Older releases have no renderers."""
    if renderer is None or type(renderer).__name__ == "HfRenderer":
        return None
    from vllm.renderers import ChatParams

    def write(turns: Turns, arguments: dict[str, Any]) -> list[int]:
        params = ChatParams(chat_template_kwargs=arguments)
        _, prompts = renderer.render_chat([turns], params)
        return list(prompts[0]["prompt_token_ids"])

    return write
