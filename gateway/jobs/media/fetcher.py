"""Media that requests name by URLs: asked of hosts that are allowed, and no more than may be."""

from __future__ import annotations

from typing import Final
from urllib.parse import urljoin

import httpx

from gateway.http.errors import invalid
from gateway.http.outside_hosts import HostRefused, OutsideHosts

MOST_REDIRECTS: Final = 3
_REDIRECTS: Final = (301, 302, 303, 307, 308)


class MediaFetcher:
    """Asks the hosts that are allowed; errors are about a `field`. Imported with the first URL: few
    gateways fetch any, and an HTTP client takes long to import. Waits are bounded by the caller."""

    def __init__(self, hosts: OutsideHosts, field: str) -> None:
        self._hosts = hosts
        self._field = field
        # Proxies of the environment would ask on, wherever they like.
        self._client = httpx.AsyncClient(timeout=None, trust_env=False, follow_redirects=False)  # noqa: S113

    async def close(self) -> None:
        """End all connections."""
        await self._client.aclose()

    async def fetch(self, url: str, most_bytes: int) -> bytes:
        """Return what is at a URL, through redirects that are looked at as it was. Raises
        `ApiError`."""
        at = url
        try:
            for _ in range(1 + MOST_REDIRECTS):
                answer = await self._ask(at, most_bytes)
                if isinstance(answer, bytes):
                    return answer
                at = urljoin(at, answer)
        except HostRefused as error:
            raise invalid(self._field, f"{at}: {error}") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise invalid(self._field, f"{at}: not reached ({type(error).__name__})") from None
        raise invalid(self._field, f"{url}: more than {MOST_REDIRECTS} redirects")

    async def _ask(self, url: str, most_bytes: int) -> bytes | str:
        """Return what is at a URL, or where that is said to be. Raises `ApiError`, `HostRefused`,
        and as httpx does."""
        target = await self._hosts.target(url)
        headers = {"host": target.netloc, "user-agent": "ew", "accept-encoding": "identity"}
        extensions = {"sni_hostname": target.host}
        stream = self._client.stream("GET", target.url, headers=headers, extensions=extensions)
        async with stream as answer:
            if answer.status_code in _REDIRECTS and "location" in answer.headers:
                place: str = answer.headers["location"]
                return place
            if answer.status_code != httpx.codes.OK:
                raise invalid(self._field, f"{url}: answered with {answer.status_code}")
            body = bytearray()
            async for part in answer.aiter_raw():
                body += part
                if len(body) > most_bytes:
                    message = f"{url}: larger than the {most_bytes} bytes left for it"
                    raise invalid(self._field, message)
            return bytes(body)
