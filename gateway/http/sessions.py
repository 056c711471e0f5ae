"""Sessions of the console: a cookie in the place of an API key, for ew's own page alone.

A session is signed with the digest of its key's secret, which only the key file has. So every
gateway process knows it, nothing is kept of it, and it ends with its key.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from http.cookies import CookieError, SimpleCookie
from typing import Final, NamedTuple

from contract.keys import KeyRecord
from gateway.http.headers import Headers, header

COOKIE: Final = "ew_session"
LASTS_S: Final = 30 * 86_400
#: A page of another site cannot send it without being asked for (CORS), and is refused then.
PAGE_HEADER: Final = b"x-ew-console"
_FORM: Final = re.compile(r"([a-z0-9]{8})\.([0-9]{1,12})\.([0-9a-f]{64})")


class Session(NamedTuple):
    """The words of a cookie, before they are known to be true."""

    key_id: str
    expires_unix_s: int
    signature: str

    def is_of(self, record: KeyRecord) -> bool:
        """Whether it was made for this key, and has not expired."""
        good = hmac.compare_digest(self.signature, _sign(record, self.expires_unix_s))
        return good and time.time() < self.expires_unix_s


def session_cookie(record: KeyRecord, *, is_secure: bool) -> str:
    """Return the `Set-Cookie` that begins a session."""
    expires = int(time.time()) + LASTS_S
    value = f"{record.id}.{expires}.{_sign(record, expires)}"
    return _cookie(value, LASTS_S, is_secure=is_secure)


def ended_cookie(*, is_secure: bool) -> str:
    """Return the `Set-Cookie` that ends one."""
    return _cookie("", 0, is_secure=is_secure)


def session_of(headers: Headers) -> Session | None:
    """Return the session of a request that ew's own page sent; None if it has none, or comes from
    anywhere else."""
    given = header(headers, b"cookie")
    if given is None or not is_own_page(headers):
        return None
    try:
        morsel = SimpleCookie(given.decode("latin-1")).get(COOKIE)
    except CookieError:
        return None
    found = _FORM.fullmatch(morsel.value) if morsel else None
    return Session(found[1], int(found[2]), found[3]) if found else None


def is_own_page(headers: Headers) -> bool:
    """Whether a request was sent by a page of this very origin. A page at another port of the same
    host is of the same site, and its browser sends the cookie along."""
    if header(headers, PAGE_HEADER) is None:
        return False
    if (header(headers, b"sec-fetch-site") or b"same-origin") != b"same-origin":
        return False
    origin = header(headers, b"origin")
    return origin is None or origin.partition(b"://")[2] == header(headers, b"host")


def _sign(record: KeyRecord, expires_unix_s: int) -> str:
    text = f"ew console {record.id} {expires_unix_s}"
    return hmac.new(record.sha256.encode(), text.encode(), hashlib.sha256).hexdigest()


def _cookie(value: str, max_age_s: int, *, is_secure: bool) -> str:
    secure = "; Secure" if is_secure else ""
    return f"{COOKIE}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Strict{secure}"
