"""Which names this gateway answers to.

A page of another site can have its own name resolve to this machine, and then talk to us as if we
were that site (DNS rebinding). Its browser says so in `Host`: a name that is not ours.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from contract.process.ports import is_address, is_loopback
from gateway.http.errors import ApiError
from gateway.http.headers import Headers, header

#: Clients come with few names. Those that try many only have each compared.
_REMEMBERED: Final = 128
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")


class Hosts:
    """The names of one listener. On loopback it has loopback's names, and those that the
    configuration adds; elsewhere any name will do unless the configuration names some.
    Addresses always will: no name was resolved to them."""

    def __init__(self, listens_on: str, names: Iterable[str]) -> None:
        self._names = [name.lower() for name in names]
        self._any = not self._names and not is_loopback(listens_on)
        self._names += ["localhost", "*.localhost", listens_on.lower()]
        self._is_ours = lru_cache(maxsize=_REMEMBERED)(self._compare)

    def check(self, headers: Headers) -> None:
        """Raises `ApiError`. (HTTP/1.0 knows no `Host`, and no browser speaks it.)"""
        given = header(headers, b"host")
        if self._any or given is None:
            return
        if not self._is_ours(given):
            message = "this gateway has no such name; `gateway.allowed_hosts` gives it more"
            raise ApiError("unknown_host", message)

    def _compare(self, given: bytes) -> bool:
        found = _HOST.fullmatch(given.decode("latin-1"))
        if found is None:
            return False
        name = found[1].lower().rstrip(".")
        return is_address(name) or any(fnmatch.fnmatchcase(name, each) for each in self._names)
