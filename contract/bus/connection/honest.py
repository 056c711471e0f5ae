"""The connections of redis-py, with what ew needs of them."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import ReadOnlyError

BECAME_REPLICA: Final = "the server has become a replica"


class HonestConnection(AbstractConnection):
    """A connection that fails by `RedisError` alone. redis-py passes a `RuntimeError` of the event
    loop on: uvloop raises one when a peer that had accepted has reset the connection meanwhile.
    And a server that has become a replica is one to leave: the next connection may lead to the
    primary. This is the one place that says which errors mean that the connection failed."""

    async def connect(self) -> None:
        try:
            await super().connect()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise LostConnection(str(error)) from error

    async def send_packed_command(self, *args: Any, **kwargs: Any) -> None:
        try:
            await super().send_packed_command(*args, **kwargs)
        except RuntimeError as error:
            raise LostConnection(str(error)) from error

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().read_response(*args, **kwargs)
        except RuntimeError as error:
            raise LostConnection(str(error)) from error
        except ReadOnlyError:
            await self.disconnect(nowait=True)
            raise LostConnection(BECAME_REPLICA) from None

    async def can_read(self) -> bool:
        try:
            return bool(await super().can_read())
        except RuntimeError as error:
            raise LostConnection(str(error)) from error

    async def hand_over(self, protocol: asyncio.Protocol) -> asyncio.WriteTransport:
        """Connect, and have `protocol` read and write in place of this connection from then on.
        Raises `RedisError`."""
        await self.connect()
        writer = self._writer
        if writer is None or writer.transport.is_closing():
            raise LostConnection("the server has closed the connection")
        writer.transport.set_protocol(protocol)
        return writer.transport

    def drop(self) -> None:
        """Close at once, without a word."""
        self._close()  # type: ignore[no-untyped-call]


class TcpConnection(HonestConnection, Connection):
    pass


class TlsConnection(HonestConnection, SSLConnection):
    pass


class _Unix(HonestConnection, UnixDomainSocketConnection):
    pass


#: By the class that redis-py makes of the URL.
HONEST: Final[dict[type[AbstractConnection], type[AbstractConnection]]] = {
    Connection: TcpConnection,
    SSLConnection: TlsConnection,
    UnixDomainSocketConnection: _Unix,
}
