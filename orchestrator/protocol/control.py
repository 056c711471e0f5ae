"""Talking with the supervisor: JSON lines over a unix socket that only its user can open.

One request per connection; answers follow until `Finished` or `Refused`.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from types import TracebackType
from typing import TypeAlias

import msgspec

from contract.messages import UNREADABLE
from contract.supervision.control import (
    AddKey,
    CancelTask,
    ChangeKey,
    Finished,
    KeyMade,
    Load,
    ModelSet,
    Pin,
    Refused,
    Reload,
    RestartModels,
    RevokeKey,
    RotateKey,
    RunTask,
    SetModel,
    StartModel,
    StartProgress,
    TaskBegun,
    Unload,
    socket_path,
)
from orchestrator.errors import UserError
from orchestrator.protocol.specs import GatewaySpec, ReplicaSpec, ValkeySpec


class Start(msgspec.Struct, frozen=True, tag="start"):
    """Start what does not run yet, and answer when all of it is ready or has failed.

    `redis_url` None means a Valkey of ew's own, as `valkey` says. `variables` are the EW_*
    settings. `unless_running`: do nothing if anything shall run already.
    """

    workers: list[ReplicaSpec]
    gateway: GatewaySpec | None = None
    redis_url: str | None = None
    variables: dict[str, str] = {}
    valkey: ValkeySpec = ValkeySpec()
    unless_running: bool = False


class Restart(msgspec.Struct, frozen=True, tag="restart"):
    """Replace the workers of these models by such as `workers` says, one after another, and the
    gateway's processes, if it is given. Open answers go on. Units that do not run are not
    started."""

    models: list[str]
    workers: list[ReplicaSpec]
    gateway: GatewaySpec | None = None
    redis_url: str | None = None


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """Stop the workers of some models, or (no models given) everything, the supervisor
    included. `now` does not wait for open answers."""

    models: list[str] = []
    now: bool = False


class Follow(msgspec.Struct, frozen=True, tag="follow"):
    """Tell every change of state. With `stop_at_end`, stop everything when the asker goes."""

    stop_at_end: bool = False


Renewal: TypeAlias = Restart | RestartModels | Reload
KeyRequest: TypeAlias = AddKey | ChangeKey | RotateKey | RevokeKey
Operators: TypeAlias = KeyRequest | RunTask | CancelTask | SetModel
Request: TypeAlias = Start | StartModel | Renewal | Stop | Load | Unload | Pin | Follow | Operators
LastAnswer: TypeAlias = Finished | KeyMade | TaskBegun | ModelSet | Refused
Answer: TypeAlias = StartProgress | LastAnswer

_answers = msgspec.json.Decoder(Answer)


class Control:
    """The asker's end. Use it as a context manager; leaving it does not undo the request."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def __enter__(self) -> Control:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave."""
        self._socket.close()

    def connect(self) -> bool:
        """Return False if no supervisor listens. Raises `OSError` if that cannot be told."""
        try:
            self._socket.connect(os.fspath(socket_path()))
        except OSError as error:
            self._socket.close()
            if isinstance(error, FileNotFoundError | ConnectionRefusedError):
                return False
            raise
        return True

    def ask(self, request: Request, *, tick_s: float = 0.2) -> Iterator[Answer | None]:
        """Send a request; yields what is answered, as it comes, and None when nothing came for
        `tick_s`. It ends without `Finished` or `Refused` only if the supervisor went away.

        Raises `UserError` if its end cannot be understood: the supervisor is of another version.
        """
        was_understood = True
        for line in self._lines(msgspec.json.encode(request) + b"\n", tick_s):
            try:
                yield None if line is None else _answers.decode(line)
            except UNREADABLE:
                was_understood = False
        if not was_understood:
            raise UserError(
                "the supervisor that runs is of another version of ew: it cannot be understood",
                "`./ew restart` goes over to this version, and loses nothing",
            )

    def _lines(self, request: bytes, tick_s: float) -> Iterator[bytes | None]:
        """Yield what comes until the other end closes; None for each tick without anything."""
        self._socket.settimeout(tick_s)
        unread = b""
        try:
            self._socket.sendall(request)
            while True:
                try:
                    received = self._socket.recv(65536)
                except TimeoutError:
                    yield None
                    continue
                if not received:
                    return
                *lines, unread = (unread + received).split(b"\n")
                yield from lines
        except (BrokenPipeError, ConnectionResetError):
            return

    def peer(self) -> int:
        """Return the pid of the supervisor."""
        credentials = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid: int = struct.unpack("iII", credentials)[0]
        return pid
