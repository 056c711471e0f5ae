"""Connections to the server that Sentinels call the primary, whichever that is by now."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio import Sentinel
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError
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
        problems: list[RedisError] = []
        async with sentinel:
            # Not `discover_master`, whose error has no more of the causes than their classes.
            for each in sentinel.sentinels:
                try:
                    known: Any = await each.sentinel_masters()
                except RedisError as error:
                    problems.append(error)
                    continue
                state = known.get(url.name)
                if state and sentinel.check_master_state(state, url.name):
                    return str(state["ip"]), int(state["port"])
        raise LostConnection(_problem(url, problems))


def _problem(url: SentinelUrl, found: Sequence[RedisError]) -> str:
    """Return why no primary was found, by what came of those that could not be asked."""
    asked = ", ".join(f"{name}:{number}" for name, number in url.sentinels)
    for error in found:
        match error.__cause__ or error.__context__ or error:
            case AuthenticationError():
                about = "refuse the login: `sentinel_password` in `redis.url` is theirs"
            case NoPermissionError() as cause:
                about = f"do not let the user in that `redis.url` has for them: {cause}"
            case ssl.SSLCertVerificationError() as cause:
                about = (
                    f"have a certificate that is refused ({cause.verify_message}): `ssl_ca_certs` "
                    "in `redis.url` names an authority of your own"
                )
            case _:
                continue
        return f"the Sentinels {asked} {about}"
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
