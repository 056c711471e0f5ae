"""HTTP over bare sockets: for what no client library would send."""

from __future__ import annotations

import json
import re
import socket
import time
from typing import Any, NamedTuple

from tests.gateway.conftest import Gateway


class Answer(NamedTuple):
    """One answer of a connection."""

    status: int
    head: bytes
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def connect(gateway: Gateway) -> socket.socket:
    return socket.create_connection(("127.0.0.1", gateway.port), timeout=20)


def request(gateway: Gateway, path: str, body: Any = None, **headers: str) -> bytes:
    """Return a request with the gateway's key, and a body if there is one."""
    named = {"Host": "localhost", "X-API-Key": gateway.key.text}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    encoded = b"" if body is None else json.dumps(body).encode()
    if body is not None:
        named |= {"Content-Length": str(len(encoded))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    method = "GET" if body is None else "POST"
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + encoded


def read_to_end(connection: socket.socket) -> bytes:
    """Return all that comes until the server closes."""
    answer = b""
    try:
        while part := connection.recv(65536):
            answer += part
    except ConnectionResetError:
        pass
    return answer


def context(gateway: Gateway, *pieces: bytes, pause_s: float = 0.0) -> bytes:
    """Send bytes as they are; everything that comes back until the connection ends."""
    with connect(gateway) as connection:
        for piece in pieces:
            try:
                connection.sendall(piece)
            except (BrokenPipeError, ConnectionResetError):
                break
            time.sleep(pause_s)
        return read_to_end(connection)


def answers_in(data: bytes) -> list[Answer]:
    """Return the answers that were read; none may be cut off."""
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        length = re.search(rb"content-length: (\d+)", head)
        if status < 200:
            body = b""
        elif length is not None:
            body, data = data[: int(length[1])], data[int(length[1]) :]
            assert len(body) == int(length[1])
        else:
            body, data = _unchunked(data)
        found.append(Answer(status, head, body))
    return found


def _unchunked(data: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        body, data = body + data[:length], data[length + 2 :]
        if length == 0:
            return body, data
