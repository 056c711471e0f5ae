"""Text as token ids, by the shortest way that is known to say the same.

A Hugging Face tokenizer gets ready for padding, truncation and much else with each text, and more
so with a chat, which takes longer than to encode a usual prompt. The one below it, in Rust, does
the work. That the two say the same is tried when the engine starts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

#: Texts that tokenizers treat in ways of their own.
_PROBES: Final = (
    "",
    "Hello, world",
    "  two  spaces\n\n\tand tabs ",
    "漢字 🎉 ä <|im_end|></s>[INST]",
)
_CHAT: Final = [{"role": "user", "content": _PROBES[-1]}]

#: Encodes a text, with the tokenizer's own tokens around it, or without.
Encode = Callable[[str, bool], list[int]]


def direct_encoder(tokenizer: Any) -> Encode | None:
    """Return what encodes as `tokenizer` does, without what is around that; None if there is
    nothing that surely does."""
    inner: Any = getattr(tokenizer, "_tokenizer", None)
    encode_batch: Any = getattr(inner, "encode_batch_fast", None)
    if encode_batch is None:
        return None

    def encode(text: str, special: bool) -> list[int]:
        # Each of the tokenizer's own calls sets these anew, for itself.
        if inner.truncation is not None or inner.padding is not None:
            own: list[int] = tokenizer.encode(text, add_special_tokens=special)
            return own
        ids: list[int] = encode_batch([text], add_special_tokens=special)[0].ids
        return ids

    def says_the_same(text: str) -> bool:
        ids = [tokenizer.encode(text, add_special_tokens=special) for special in (True, False)]
        same = [encode(text, special) for special in (True, False)] == ids
        return same and bool(tokenizer.encode(text) == ids[0])

    # How one fails that is made otherwise is its own affair.
    try:
        return encode if all(says_the_same(text) for text in _PROBES) else None
    except Exception:
        return None


def encodes_what_it_writes(tokenizer: Any, encode: Encode) -> bool:
    """Whether the ids of a chat are those of its text, by a tokenizer's own template."""
    try:
        written = tokenizer.apply_chat_template(_CHAT, tokenize=False, add_generation_prompt=True)
        ids = tokenizer.apply_chat_template(_CHAT, return_dict=False, add_generation_prompt=True)
        return bool(encode(written, False) == ids)
    # Templates are programs: one may refuse this chat, or need more than it has.
    except Exception:
        return False
