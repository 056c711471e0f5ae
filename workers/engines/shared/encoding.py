"""Text as token ids, by the shortest way that is known to say the same.

A Hugging Face tokenizer gets ready for padding, truncation and much else with each text, and more
so with a chat, which takes longer than to encode a usual prompt. The one below it, in Rust, does
the work. That the two say the same is tried when the engine starts.

To encode a usual prompt is a sixth of what it costs to give an engine its job, and the one part of
it that other cores can do: the tokenizer spreads a list of texts over them, where they are free.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, Final

from contract.messages import Job

log = logging.getLogger(__name__)
#: With fewer cores the loop waits for one, and for others that it needs, longer than it saves.
FREE_FROM_CORES: Final = 8
#: Of a text that is encoded together with others: the loop waits for them all.
_LONGEST_CHARS: Final = 2_000
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
#: The same with several texts, on all cores at once.
EncodeAll = Callable[[list[str], bool], list[list[int]]]


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


def batch_encoder(tokenizer: Any, encode: Encode) -> EncodeAll | None:
    """Return what encodes several texts as `encode` does each; None if nothing surely does, or
    there are few cores."""
    if len(os.sched_getaffinity(0)) < FREE_FROM_CORES:
        return None
    inner: Any = getattr(tokenizer, "_tokenizer", None)

    def encode_all(texts: list[str], special: bool) -> list[list[int]]:
        if inner.truncation is not None or inner.padding is not None:
            return [encode(text, special) for text in texts]
        found = inner.encode_batch_fast(texts, add_special_tokens=special)
        return [each.ids for each in found]

    def says_the_same(special: bool) -> bool:
        each = [encode(text, special) for text in _PROBES]
        return encode_all(list(_PROBES), special) == each

    try:
        return encode_all if all(says_the_same(special) for special in (True, False)) else None
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


class ReadAhead:
    """The token ids of plain prompts of the jobs that come next."""

    def __init__(self, encode_all: EncodeAll) -> None:
        self._encode_all = encode_all
        #: By text, and whether the tokenizer adds its own tokens.
        self._ids: dict[tuple[str, bool], list[int]] = {}

    def read(self, jobs: Sequence[Job]) -> None:
        """Encode the prompts of these jobs, and forget those of before."""
        self._ids = {}
        for special in (True, False):
            texts = [each.prompt for each in jobs if _is_plain(each, special)]
            self._encode({text for text in texts if text is not None}, special)

    def take(self, text: str, special: bool) -> list[int] | None:
        """Return the token ids of a text, if it was read ahead."""
        ids = self._ids.get((text, special))
        return None if ids is None else list(ids)

    def _encode(self, texts: set[str], special: bool) -> None:
        if len(texts) < 2:
            return
        given = sorted(texts)
        try:
            found = self._encode_all(given, special)
        # The one that cannot be encoded says so when its turn comes.
        except Exception as error:
            log.debug("prompts are encoded one by one: %s", error)
            return
        self._ids |= zip(((text, special) for text in given), found, strict=True)


def _is_plain(job: Job, special: bool) -> bool:
    is_text = job.prompt is not None and job.messages is None and job.suffix is None
    if not is_text or len(job.prompt or "") > _LONGEST_CHARS:
        return False
    return (job.add_special_tokens is not False) == special
