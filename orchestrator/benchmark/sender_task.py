"""The requests of a load test, and their server."""

from __future__ import annotations

import random
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from orchestrator.errors import UserError

_TEXT: Final = (
    "the sea is wide and a ship goes far to see what no one on land will know for years but "
    "wind rain sun stone tree house road river hill light night day time hand eye voice word"
)
_WORDS: Final = tuple(_TEXT.split())


class Endpoint(msgspec.Struct, frozen=True):
    """A server of OpenAI's API. `base` is the path of its base URL, as `/v1`; `certificate` is the
    file of the only one that is trusted, empty for those that the system trusts."""

    host: str
    port: int
    base: str
    is_tls: bool = False
    key: str = ""
    certificate: str = ""

    @classmethod
    def of(cls, url: str, key: str) -> Endpoint:
        """Raises `UserError` for what is no http(s) URL."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise _bad(url) from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise _bad(url)
        is_tls = parts.scheme == "https"
        return cls(
            parts.hostname, port or (443 if is_tls else 80), parts.path.rstrip("/"), is_tls, key
        )

    @property
    def url(self) -> str:
        return f"{'https' if self.is_tls else 'http'}://{self._netloc}{self.base}"

    @property
    def _netloc(self) -> str:
        name = f"[{self.host}]" if ":" in self.host else self.host
        return f"{name}:{self.port}"

    def head(self) -> bytes:
        """Return the headers that all requests share, without the first line."""
        lines = [f"Host: {self._netloc}", "Content-Type: application/json"]
        if self.key:
            lines.append(f"Authorization: Bearer {self.key}")
        return "".join(f"{line}\r\n" for line in lines).encode()


class Arrival(msgspec.Struct, frozen=True):
    """One recorded request. `path` is what follows the base URL; `at_s` counts from the first."""

    at_s: float
    path: str
    body: dict[str, Any]


class PromptPattern(msgspec.Struct, frozen=True):
    """Requests that differ in their prompts only, each of `words` random words: no server answers
    them from a cache. `body` is the rest of the request."""

    path: str
    body: dict[str, Any]
    words: int

    def example(self) -> tuple[str, dict[str, Any]]:
        """Return the path and the body of a request with a new prompt."""
        text = " ".join(random.choices(_WORDS, k=self.words))  # noqa: S311
        if "chat" in self.path:
            return self.path, self.body | {"messages": [{"role": "user", "content": text}]}
        return self.path, self.body | {"prompt": text}


class SenderTask(msgspec.Struct, frozen=True):
    """The work of one sender process, for at most `seconds`: keep so many `streams` open, each of
    which asks again when it was answered; or send each of `arrivals` when it is due."""

    endpoint: Endpoint
    seconds: float
    streams: int = 0
    prompts: PromptPattern | None = None
    arrivals: list[Arrival] = []


def _bad(url: str) -> UserError:
    return UserError(f"`{url}` is not the URL of a server", "as http://127.0.0.1:8000/v1")
