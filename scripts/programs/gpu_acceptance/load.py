"""The load on a model while its memory is watched: requests that take the most."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from combinations import Combination
from installation import Installation

#: A full answer, sampled.
FULL_ANSWER = {"max_tokens": 16, "temperature": 0.8, "top_p": 0.9, "ignore_eos": True}
#: Prompts that fill steps, and images, that are asked at once.
_LONG_PROMPTS = 8
_IMAGES = 6
_MOST_AT_ONCE = 320


class Request(NamedTuple):
    """A request to a route of the gateway."""

    path: str
    body: dict[str, Any]


def load(ew: Installation, combination: Combination, names: Sequence[str]) -> None:
    """Ask these models in turn, all at once: prompts that fill whole steps of the engine, images,
    and a full batch. Raises `Failure` with the first answer that is an error."""
    requests = [
        Request(each.path, {"model": names[turn % len(names)]} | each.body)
        for turn, each in enumerate(_requests(combination))
    ]
    with ThreadPoolExecutor(min(len(requests), _MOST_AT_ONCE)) as pool:
        for answer in [pool.submit(ew.post, each.path, each.body) for each in requests]:
            answer.result()


def _requests(combination: Combination) -> Iterator[Request]:
    prompts = _prompts(combination)
    if combination.makes_vectors:
        yield from (Request("/v1/embeddings", {"input": prompt}) for prompt in prompts)
        return
    if combination.image_side:
        yield from (_about_image(combination.image_side, turn) for turn in range(_IMAGES))
    yield from (Request("/v1/completions", {"prompt": each} | FULL_ANSWER) for each in prompts)


def _prompts(combination: Combination) -> list[str]:
    """Every digit is a token of its own."""
    length = max(16, min(combination.max_model_len - 64, 4096))
    long = [
        "".join(str((turn + place) % 10) for place in range(length))
        for turn in range(_LONG_PROMPTS)
    ]
    return long + [str(turn) * 32 for turn in range(combination.batch)]


def _about_image(side: int, shade: int) -> Request:
    """A question about an image; no two have the same, so that none is remembered."""
    url = "data:image/png;base64," + base64.b64encode(png(side, shade)).decode()
    content = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": "1234"},
    ]
    messages = [{"role": "user", "content": content}]
    return Request("/v1/chat/completions", {"messages": messages} | FULL_ANSWER)


def png(side: int, shade: int = 0) -> bytes:
    """A square image of so many pixels a side, in one colour."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    rows = (b"\0" + bytes((shade, 128, 255 - shade)) * side) * side
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
