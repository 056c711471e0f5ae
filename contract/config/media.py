"""Media in requests: how many and how large, and from where."""

from __future__ import annotations

from pydantic import Field

from contract.asked import MediaKind
from contract.config.section import Section


class MediaConfig(Section):
    """Images, sound and video in requests, for models that take them."""

    kinds: list[MediaKind] = Field(
        ["image", "audio"],
        description="`image`, `audio`, `video`. The size of images is known before a worker sees "
        "them, and sound is decoded within `max_speech_s`; how much video becomes once it is "
        "decoded is not known, so allow it only where you trust your callers.",
    )
    max_items: int = Field(16, ge=1, le=1_024, description="Of one request.")
    max_bytes: int = Field(
        25_165_824,
        ge=1024,
        description="Of one request, all together and decoded. A body may be longer than "
        "`limits.max_body_bytes` by as much as they take in base64, if a model that its key may "
        "use takes any.",
    )
    max_pixels: int = Field(40_000_000, ge=1, description="Of one image: its width by its height.")
    max_speech_s: float = Field(
        600,
        gt=0,
        description="Of a speech to be written down, which needs no leave in `kinds`, and of all "
        "sounds of a chat together (each at most 600, vLLM's own bound), decoded by vLLM. Servers "
        "behind `openai` models have bounds of their own.",
    )
    hosts: list[str] = Field(
        default_factory=list,
        description="Hosts that URLs in requests may name, such as `images.example.com`; "
        "`*.example.com` covers all below, `*` is any. None if this is empty: then images come in "
        "the request itself.",
    )
    private_hosts: list[str] = Field(
        default_factory=list,
        description="Those of them, by name or address, that may be within your own network "
        "(loopback, private and link-local addresses) and asked by plain http.",
    )
    timeout_s: float = Field(10, gt=0, description="For fetching all of a request.")
