"""Chats with images, sound or video. vLLM's own renderer reads them, as for its server: it decodes
what is there, finds the places for it in the model's chat template, and computes what the model
sees in a thread."""

from __future__ import annotations

import asyncio
from inspect import signature
from typing import Any, Final, NamedTuple, get_args

from contract.asked import MediaKind
from contract.messages import ErrorCode, Job
from workers.engine import JobRejected
from workers.engines.prompts import Prompts, Turns, chats_of, template_arguments
from workers.engines.vllm.media.sounds import (
    can_bound_sounds,
    check_sounds,
    resample_by_what_is_installed,
)
from workers.engines.vllm.requests import tokens_prompt

_SKIP: Final = "skip_mm_cache"


class VllmPrompt(NamedTuple):
    """The tokens of a prompt, with as many for each image as the model sees it in; and what vLLM
    has rendered beside them, if anything."""

    token_ids: list[int]
    rendered: dict[str, Any] | None = None

    def followed_by(self, emitted: list[int], salt: str | None) -> Any:
        """Return what vLLM is given: the prompt, and what there is of the answer."""
        token_ids = self.token_ids + emitted
        if self.rendered is None:
            return tokens_prompt(token_ids, salt)
        salted = {} if salt is None else {"cache_salt": salt}
        return self.rendered | {"prompt_token_ids": token_ids} | salted


class MediaChats:
    """Renders chats by vLLM's `renderer`, which is None in releases that have none. Those, and
    others that are too old, take no media."""

    def __init__(self, renderer: Any, prompts: Prompts) -> None:
        self._renderer = renderer
        self._prompts = prompts
        can = _can_send_whole(renderer)
        limits = renderer.mm_processor.info.allowed_mm_limits if can else {}
        self.takes: tuple[MediaKind, ...] = tuple(
            kind
            for kind in get_args(MediaKind)
            if limits.get(kind, 0) > 0 and (kind != "audio" or can_bound_sounds())
        )
        if "audio" in self.takes:
            resample_by_what_is_installed(renderer.mm_processor.info)

    async def prompt(self, job: Job) -> VllmPrompt:
        """Return the prompt of a chat with media. Raises `JobRejected`."""
        turns, moved = chats_of(job)
        try:
            await asyncio.to_thread(check_sounds, job)
            adds_special = bool(job.add_special_tokens)
            rendered = await self._rendered(turns, moved, template_arguments(job), adds_special)
        # Templates, decoders of images and models' processors raise what they like.
        except Exception as error:
            message = f"the messages cannot be read: {error}"
            raise JobRejected(ErrorCode.INVALID_REQUEST, message) from error
        token_ids = list(rendered["prompt_token_ids"])
        self._prompts.check_length(job, token_ids)
        return VllmPrompt(token_ids, rendered)

    async def _rendered(
        self, turns: Turns, moved: Turns, arguments: dict[str, Any], adds_special: bool
    ) -> dict[str, Any]:
        from vllm.renderers import ChatParams, TokenizeParams

        tokens = TokenizeParams(max_total_tokens=None, add_special_tokens=adds_special)
        params = ChatParams(chat_template_kwargs=arguments)
        # This process does not remember which images the engine core has: requests that are
        # refused, or come in another order, would make that wrong.
        skip = {_SKIP: True}
        try:
            _, prompts = await self._renderer.render_chat_async([turns], params, tokens, **skip)
        except Exception:
            if not moved or moved == turns:
                raise
            return await self._rendered(moved, [], arguments, adds_special)
        rendered: dict[str, Any] = dict(prompts[0])
        return rendered


def _can_send_whole(renderer: Any) -> bool:
    """Whether it is the renderer of a model with media, and can send each of them whole, though the
    engine core may have it (vLLM 0.26, 0.32 and 0.33 can)."""
    if getattr(renderer, "mm_processor", None) is None:
        return False
    return _SKIP in signature(renderer.render_chat_async).parameters
