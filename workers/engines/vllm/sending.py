"""Requests on their way to vLLM's engine core: those of one turn of the loop go together.

vLLM sends each through a future of its own, and each time wakes the thread of its sockets, which
has nothing else to do. Sent one right after the other, many requests wake it once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Final

from workers.engines.vllm.known_sources import Read, own_way, why_unknown
from workers.outbox import Outbox

READ: Final[Read] = {
    "AsyncMPClient.add_request_async": {
        "0.26.0": "1af4694c34b3a43e",
        "0.32.0": "1af4694c34b3a43e",
        "0.33.0": "1af4694c34b3a43e",
    },
    "AsyncMPClient._send_input": {
        "0.26.0": "d65f319528ca2541",
        "0.32.0": "026c342109de10c2",
        "0.33.0": "026c342109de10c2",
    },
    "AsyncMPClient._send_input_message": {
        "0.26.0": "46eddcf92816b236",
        "0.32.0": "17d1007c67e319d9",
        "0.33.0": "17d1007c67e319d9",
    },
}
_SEND: Final = "_send_input_message"
#: `EngineCoreRequestType.ADD`, and how many parts a request has without tensors.
_ADD: Final = b"\x00"
_PARTS: Final = 2


class RequestSender:
    """Stands in for `_send_input_message` of an `AsyncMPClient`, once they are sent together."""

    def __init__(self, client: Any, outbox: Outbox) -> None:
        import zmq

        self._outbox = outbox
        self._own_way = getattr(client, _SEND)
        self._ensure_alive = client.ensure_alive
        self._socket: Any = zmq.Socket.shadow(client.input_socket)
        self._at_once: int = zmq.NOBLOCK
        self._loop = asyncio.get_running_loop()
        self._held: list[tuple[bytes, ...]] = []
        self._sent: asyncio.Future[None] = self._loop.create_future()
        self._sent.set_result(None)

    def send(self, message: tuple[bytes, ...], engine: bytes, *more: Any) -> Awaitable[Any]:
        """Send a request at the end of this turn, and all else at once, after what is held: nothing
        overtakes. Raises `EngineDeadError`."""
        if message[0] != _ADD or len(message) != _PARTS:
            self._flush()
            other: Awaitable[Any] = self._own_way(message, engine, *more)
            return other
        self._ensure_alive()
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held.append((engine, *message))
        return self._sent

    def _flush(self) -> None:
        held, self._held = self._held, []
        try:
            for message in held:
                # The socket has no bound, and a router never waits for a peer.
                self._socket.send_multipart(message, self._at_once)
        # None of these was refused: what fails is the way to the engine core.
        except Exception as error:
            self._outbox.engine_died(error)


def send_together(engine: Any, outbox: Outbox) -> str:
    """Have the requests of an `AsyncLLM` sent together. Return a remark for the operator on why
    that cannot be; empty if it can."""
    from vllm.v1.engine import core_client

    client = engine.engine_core
    is_known = type(client).__name__ == "AsyncMPClient"
    why = why_unknown(READ, core_client) if is_known else f"by a `{type(client).__name__}`"
    if not why:
        setattr(client, _SEND, RequestSender(client, outbox).send)
    return own_way("requests", why)
