"""Hosts that clients have this gateway ask, for webhooks and images: those that the operator
allows, and in its own network only those that it names. The address that was looked at is the one
that is asked, so that a name cannot be given another one in between (DNS rebinding)."""

from __future__ import annotations

import asyncio
import fnmatch
import ipaddress
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

from gateway.http.errors import invalid

#: A name server that does not answer takes none of the threads that others work in.
_RESOLVERS: Final = ThreadPoolExecutor(16, "resolver")


class HostRefused(Exception):
    """A URL may not be asked; the message says why."""


class OutsideTarget(NamedTuple):
    """A URL at an address, and the host that it is for."""

    url: str
    host: str
    netloc: str


class OutsideHosts:
    """The hosts that a key of the configuration, called `setting`, allows."""

    def __init__(self, setting: str, allowed: Iterable[str], private: Iterable[str]) -> None:
        self._setting = setting
        self._allowed = [pattern.lower() for pattern in allowed]
        self._private = {name.lower() for name in private}

    def check(self, url: str, field: str) -> None:
        """Raises `ApiError` about a `field` for a URL that may not be asked, whatever its address
        is."""
        try:
            self._parsed(url)
        except HostRefused as error:
            raise invalid(field, str(error)) from None

    async def target(self, url: str) -> OutsideTarget:
        """Return where to ask for a URL now. Raises `HostRefused`, `OSError`."""
        parts = self._parsed(url)
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        loop = asyncio.get_running_loop()
        look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await loop.run_in_executor(_RESOLVERS, look_up)
        addresses = [str(entry[4][0]) for entry in found]
        if host not in self._private and not all(map(_is_public, addresses)):
            raise HostRefused(f"`{host}` is within this network")
        address = f"[{addresses[0]}]" if ":" in addresses[0] else addresses[0]
        at = parts._replace(netloc=f"{address}:{port}", fragment="")
        return OutsideTarget(at.geturl(), host, parts.netloc)

    def _parsed(self, url: str) -> SplitResult:
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:
            raise HostRefused("not a URL") from None
        host = parts.hostname or ""
        if parts.username is not None or not host or not url.isascii() or not url.isprintable():
            raise HostRefused("must be like https://host/path, in ASCII and without a password")
        is_private = host in self._private
        if parts.scheme not in (("https", "http") if is_private else ("https",)):
            raise HostRefused("must begin with https://")
        if not is_private and not any(fnmatch.fnmatchcase(host, each) for each in self._allowed):
            raise HostRefused(f"`{host}` is not among `{self._setting}`")
        return parts


def _is_public(address: str) -> bool:
    """Whether an address is of the internet at large. Those that hold an IPv4 address are as that
    is."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo or (None, None))[1]
        if inner is not None:
            return inner.is_global and not inner.is_multicast
        if found in _NAT64:
            return _is_public(str(ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)))
    return found.is_global and not found.is_multicast


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
