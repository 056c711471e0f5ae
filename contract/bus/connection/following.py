"""Connections to the server that Sentinels call the primary, whichever that is by now."""

from __future__ import annotations

from typing import Any, Final

from redis.asyncio import Sentinel
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as LostConnection

from contract.bus.connection.honest import HonestConnection, TcpConnection, TlsConnection
from contract.bus.connection.url import SentinelUrl

#: Sentinels are asked in order: one on a host that is gone may not hold the next one up for long.
_PATIENCE_S: Final = 1.0


class _Following(HonestConnection):
    """Asks the Sentinels each time that it connects."""

    def __init__(self, *, sentinels: SentinelUrl, **options: Any) -> None:
        self._sentinels = sentinels
        self._sentinel_options = {
            "username": sentinels.username,
            "password": sentinels.password,
            "socket_timeout": _PATIENCE_S,
            "socket_connect_timeout": _PATIENCE_S,
            # By itself each would be asked four times, with pauses of seconds.
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "ssl": sentinels.has_tls,
            **{name: value for name, value in options.items() if name.startswith("ssl_")},
        }
        super().__init__(**options)

    async def _connect(self) -> None:
        # Not in `connect`, which redis-py passes by when a command finds the connection closed.
        self.host, self.port = await self._primary()
        await super()._connect()  # type: ignore[no-untyped-call,safe-super]

    async def _primary(self) -> tuple[str, int]:
        """Raises `ConnectionError` of redis-py if no Sentinel knows one."""
        url = self._sentinels
        # A few commands in a failover, and none besides: nothing is kept open for them.
        sentinel = Sentinel(url.sentinels, sentinel_kwargs=self._sentinel_options)  # type: ignore[no-untyped-call]
        async with sentinel:
            try:
                host, port = await sentinel.discover_master(url.name)
            except MasterNotFoundError as error:
                raise LostConnection(_problem(url, str(error))) from None
        return str(host), int(port)


def _problem(url: SentinelUrl, said: str) -> str:
    """Return why no primary was found. redis-py's own words tell each Sentinel's client in full."""
    asked = ", ".join(f"{name}:{number}" for name, number in url.sentinels)
    if "AuthenticationError" in said:
        return (
            f"the Sentinels {asked} refuse the login: `sentinel_password` in `redis.url` is theirs"
        )
    return f"none of the Sentinels {asked} knows a primary `{url.name}` that is up"


class _FollowingTcp(_Following, TcpConnection):
    pass


class _FollowingTls(_Following, TlsConnection):
    pass


#: By the class that redis-py makes of the URL.
FOLLOWING: Final[dict[type[AbstractConnection], type[AbstractConnection]]] = {
    Connection: _FollowingTcp,
    SSLConnection: _FollowingTls,
}
