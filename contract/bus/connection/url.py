"""`redis.url`: one server, or Sentinels that know which of several it is."""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

#: With TLS or without, to the server as to its Sentinels.
_SENTINEL_SCHEMES: Final = {"redis+sentinel": "redis", "rediss+sentinel": "rediss"}
_SCHEMES: Final = ("redis", "rediss", "unix", *_SENTINEL_SCHEMES)
_SENTINEL_PORT: Final = 26379
_EXAMPLE: Final = "redis+sentinel://10.0.0.1:26379,10.0.0.2:26379/NAME/0"


class SentinelUrl(NamedTuple):
    """`redis+sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/NAME/DATABASE`: `name` is what the
    Sentinels call the servers of which one is the primary. Options are those of redis-py, but for
    `sentinel_username` and `sentinel_password`, which open the Sentinels themselves.

    `server` is the URL of the primary, but for its host and port.
    """

    sentinels: tuple[tuple[str, int], ...]
    name: str
    server: str
    username: str | None
    password: str | None

    @property
    def has_tls(self) -> bool:
        return self.server.startswith("rediss:")


def sentinel_url(url: str) -> SentinelUrl | None:
    """Read the URL of Sentinels; None if it is that of a server. Raises `ValueError` in words that
    follow "`redis.url`"."""
    scheme, _, rest = url.partition("://")
    if scheme not in _SENTINEL_SCHEMES:
        return None
    # Recent releases of Python let `urlsplit` take brackets around a single host alone.
    netloc, *beyond = re.split(r"(?=[/?#])", rest, maxsplit=1)
    parts = urlsplit(f"//localhost{''.join(beyond)}")
    login, at, hosts = netloc.rpartition("@")
    name, _, database = parts.path.strip("/").partition("/")
    if not name or not re.fullmatch(r"\d*", database):
        raise ValueError(f"does not name the Sentinels' primary; write {_EXAMPLE}")
    options = dict(parse_qsl(parts.query))
    username, password = (options.pop(f"sentinel_{key}", None) for key in ("username", "password"))
    return SentinelUrl(
        sentinels=tuple(map(_sentinel, hosts.split(","))),
        name=name,
        server=f"{_SENTINEL_SCHEMES[scheme]}://{login}{at}localhost/{database}?{urlencode(options)}",
        username=username,
        password=password,
    )


def _sentinel(address: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{address}")
        port = _SENTINEL_PORT if parts.port is None else parts.port
    except ValueError:
        parts, port = urlsplit("//"), 0
    if not parts.hostname or not port:
        raise ValueError(f"has a Sentinel without a usable host and port; write {_EXAMPLE}")
    return parts.hostname, port


def hosts_of(url: str) -> list[str]:
    """Return the names or addresses of hosts in a URL that is right."""
    if url.startswith("unix:"):
        return []
    asked = sentinel_url(url)
    if asked is not None:
        return [host for host, _ in asked.sentinels]
    return [urlsplit(url).hostname or "localhost"]


def complaint_about(url: str) -> str:
    """Return what is wrong with a URL, in words that follow "`redis.url`" and do not repeat the
    URL, which may hold a password; empty if nothing is."""
    try:
        if sentinel_url(url) is not None:
            return ""
    except ValueError as error:
        return str(error)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "has no usable host and port; write redis://HOST:PORT/0, port from 1 to 65535"
    if parts.scheme not in _SCHEMES or "://" not in url:
        return (
            "must begin with redis://, rediss://, unix:// or redis+sentinel://, as in "
            "redis://127.0.0.1:6379/0"
        )
    if parts.scheme == "unix":
        return "" if parts.path else "names no socket; write unix:///path/to/redis.sock"
    if port == 0:
        return "has the port 0; it must be from 1 to 65535"
    if not re.fullmatch(r"/?\d*", parts.path):
        return "ends in a database that is no number; write it as in redis://127.0.0.1:6379/0"
    return ""
