"""Images and the like on their way in: bounded, and fetched where a request names URLs, before a
worker sees them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Collection
from importlib import import_module
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from contract.asked import Media
from contract.config.media import MediaConfig
from contract.media import WORDS_OF_MEDIA, media_of, takes_none, with_each_medium
from contract.messages import Job
from gateway.http.errors import ApiError, invalid
from gateway.http.outside_hosts import OutsideHosts
from gateway.jobs.media.images import NoImage, image_header
from gateway.jobs.media.sounds import sound_type

if TYPE_CHECKING:
    from gateway.jobs.media.fetcher import MediaFetcher

_FIELD: Final = "messages"
#: Fetched at once by one process.
_AT_ONCE: Final = 16


class MediaIntake:
    """Lets in images and the like as far as the operator allows them."""

    def __init__(self, config: MediaConfig) -> None:
        self._config = config
        self._hosts = OutsideHosts("gateway.media.hosts", config.hosts, config.private_hosts)
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._fetcher: MediaFetcher | None = None

    def check(self, job: Job, takes: Collection[str] | None) -> Job:
        """Return the job, if its media may come in, given the kinds that its model `takes` (None:
        that is not known yet). Raises `ApiError`."""
        media = media_of(job)
        if not media:
            return job
        if len(media) > self._config.max_items:
            raise invalid(_FIELD, f"{len(media)} media; at most {self._config.max_items}")
        for each in media:
            if takes is not None and each.kind not in takes:
                raise invalid(_FIELD, takes_none(job.model, each.kind))
            # A speech to be written down has its own bound, in seconds.
            if each.kind not in self._config.kinds and job.speech is None:
                words = WORDS_OF_MEDIA[each.kind]
                raise invalid(_FIELD, f"this gateway takes no {words} (`gateway.media.kinds`)")
            if each.url:
                self._hosts.check(each.url, _FIELD)
        self._check_size(media)
        # Speech to be written down may have any form that its model's library reads.
        return with_each_medium(job, self._known) if job.speech is None else job

    async def fetched(self, job: Job) -> Job:
        """Return a checked job with the media that it names by URLs. Raises `ApiError`."""
        wanted = {each.url: each for each in media_of(job) if each.url}
        if not wanted:
            return job
        left = self._config.max_bytes - sum(each.size for each in media_of(job))
        found: dict[str, Media] = {}
        fetcher = await self._fetching()
        try:
            async with asyncio.timeout(self._config.timeout_s), self._turns:
                for url, each in wanted.items():
                    data = await fetcher.fetch(url, left)
                    left -= len(data)
                    found[url] = self._known(_with_data(each, data))
        except TimeoutError:
            message = f"{url}: not fetched within {self._config.timeout_s:g} s"
            raise invalid(_FIELD, message) from None
        job = with_each_medium(job, lambda each: _placed(found.get(each.url), each))
        self._check_size(media_of(job))
        return job

    async def close(self) -> None:
        """End all connections."""
        if self._fetcher is not None:
            await self._fetcher.close()

    async def _fetching(self) -> MediaFetcher:
        """Return what fetches; the first takes a while to import, in which the loop turns on."""
        if self._fetcher is None:
            module = await asyncio.to_thread(import_module, "gateway.jobs.media.fetcher")
            made: MediaFetcher = module.MediaFetcher(self._hosts, _FIELD)
            self._fetcher = self._fetcher or made
        return self._fetcher

    def _known(self, media: Media) -> Media:
        """A medium with the type that it really has. Raises `ApiError`."""
        if media.url:
            return media
        match media.kind:
            case "image":
                return self._known_image(media)
            case "audio":
                return self._known_sound(media)
            case _:
                return media

    def _known_sound(self, media: Media) -> Media:
        """Raises `ApiError`."""
        type_ = sound_type(media.data)
        if not type_:
            forms = "WAV, MP3, FLAC, OGG, M4A, AAC or WebM"
            raise invalid(_FIELD, f"a sound is not readable as {forms}")
        return replace(media, type=type_, most_s=self._config.max_speech_s)

    def _known_image(self, media: Media) -> Media:
        """Raises `ApiError`."""
        try:
            header = image_header(media.data)
        except NoImage:
            raise invalid(_FIELD, "an image is not readable as PNG, JPEG, WebP or GIF") from None
        if header.pixels > self._config.max_pixels:
            most = self._config.max_pixels
            raise invalid(_FIELD, f"an image has more than {most} pixels")
        return replace(media, type=header.type)

    def _check_size(self, media: list[Media]) -> None:
        size = sum(each.size for each in media)
        if size > self._config.max_bytes:
            most = self._config.max_bytes
            message = f"the media of the request have {size} bytes; at most {most}"
            raise ApiError("body_too_large", message)


def _with_data(media: Media, data: bytes) -> Media:
    digest = hashlib.sha256(data).hexdigest()
    return replace(media, url="", type=media.kind, digest=digest, size=len(data), data=data)


def _placed(found: Media | None, media: Media) -> Media:
    return media if found is None else replace(found, at=media.at)
