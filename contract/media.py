"""Images, sound and video of a job. Their bytes travel beside the job, in a Redis hash of their
own, and are gone with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from msgspec.structs import replace

from contract.asked import Media, MediaKind
from contract.messages import ChatMessage, Delta, Job

_HEAD: Final = "<|ew:"

#: As in "takes no images".
WORDS_OF_MEDIA: Final[dict[MediaKind, str]] = {
    "image": "images",
    "audio": "sound",
    "video": "video",
}


def takes_none(model: str, kind: MediaKind) -> str:
    """Return what is told of a model, and so of its engine, that takes none of a kind of media."""
    return f"model `{model}` takes no {WORDS_OF_MEDIA[kind]}; docs/engines.md says which engines do"


def media_of(job: Job) -> list[Media]:
    """Return all media of a job, in the order of its turns."""
    return [each for message in job.messages or () for each in message.media]


def parts_of(message: ChatMessage) -> Iterator[str | Media]:
    """Yield a turn's text and media as they follow one another."""
    done = 0
    for media in message.media:
        if text := message.content[done : media.at]:
            yield text
        yield media
        done = media.at
    if text := message.content[done:]:
        yield text


def speech_head(**facts: float | str) -> str:
    """Return the text of a delta without tokens that tells of the part of a speech that follows:
    `seconds` of the whole and its `language` before the first, `from` where in it each begins."""
    return f"{_HEAD}{json.dumps(facts)}|>"


def facts_of(delta: Delta) -> dict[str, Any] | None:
    """Return the facts of such a delta; None for any other."""
    if delta.tokens or not delta.text.startswith(_HEAD):
        return None
    facts: dict[str, Any] = json.loads(delta.text.removeprefix(_HEAD).removesuffix("|>"))
    return facts


def media_words(job: Job) -> list[str | bytes]:
    """Return the digests and bytes of a job's media, each once, as the last arguments of
    `enqueue`."""
    contents = {media.digest: media.data for media in media_of(job)}
    return [word for pair in contents.items() for word in pair]


def without_contents(job: Job) -> Job:
    """Return the job as it is sent: its media by their digests alone."""
    return with_each_medium(job, lambda media: replace(media, data=b""))


def with_contents(job: Job, contents: Mapping[str, bytes]) -> Job:
    """Return the job with the bytes of its media. Raises `KeyError` if some are missing."""
    return with_each_medium(job, lambda media: replace(media, data=contents[media.digest]))


def with_each_medium(job: Job, change: Callable[[Media], Media]) -> Job:
    """Return the job with each of its media as `change` makes it."""
    if not media_of(job):
        return job
    messages = tuple(
        replace(message, media=tuple(map(change, message.media))) if message.media else message
        for message in job.messages or ()
    )
    return replace(job, messages=messages)
