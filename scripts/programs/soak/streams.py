"""Clients that read answers to their end, over as many connections as it takes, and look at every
token: the mock engine counts, so that token k of an answer is `k `."""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from hosts import TOKENS_PER_S

_NATIVE: Final = "/api/v1/inference/stream"
_CHAT: Final = "/v1/chat/completions"
_AGAIN_AFTER_S: Final = 0.3
#: Without a byte for so long, it is asked again.
_SILENCE_S: Final = 45.0
#: The time that an answer may take beyond its tokens, whatever happens to it.
_PATIENCE_S: Final = 300.0


@dataclass
class Counts:
    """The fate of all streams, and of their tokens."""

    streams: int = 0
    tokens: int = 0
    #: As ew's own account of usage has them, once it was looked at.
    accounted: int | None = None
    lost: int = 0
    duplicated: int = 0
    wrong: int = 0
    connections: int = 0
    resumed: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    #: Seconds without a token in the middle of an answer, the longest of each stream.
    pauses: list[float] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.duplicated or self.wrong or self.failed or self.misaccounted)

    @property
    def misaccounted(self) -> int:
        """Tokens that ew's account has too many or too few of."""
        heard = self.tokens - self.duplicated
        return 0 if self.accounted is None else abs(self.accounted - heard)


class Answer:
    """One answer of a known length, token by token."""

    def __init__(self, counts: Counts, tokens: int) -> None:
        self._counts = counts
        self._tokens = tokens
        self._next = 0
        self._at = 0.0
        self._longest_pause = 0.0
        self.is_done = False

    def hear(self, text: str) -> None:
        now = time.monotonic()
        if self._at:
            self._longest_pause = max(self._longest_pause, now - self._at)
        self._at = now
        for word in text.split():
            self._count(word)

    def _count(self, word: str) -> None:
        if not word.isdecimal():
            self._counts.wrong += 1
            return
        number = int(word)
        self._counts.tokens += 1
        if number < self._next:
            self._counts.duplicated += 1
            return
        self._counts.lost += number - self._next
        self._next = number + 1

    def end(self) -> None:
        """The gateway says that it was all."""
        self.is_done = True
        self._counts.streams += 1
        self._counts.lost += max(0, self._tokens - self._next)
        self._counts.wrong += max(0, self._next - self._tokens)
        self._counts.pauses.append(self._longest_pause)


class Client:
    """Reads one answer after the other. Raises nothing: what goes wrong is counted."""

    def __init__(
        self, ports: Sequence[int], key: str, counts: Counts, seed: str, longest: int
    ) -> None:
        self._ports = ports
        self._key = key
        self._counts = counts
        self._random = random.Random(seed)
        self._longest = longest
        self._writer: asyncio.StreamWriter | None = None
        self.stops = False

    async def run(self) -> None:
        while not self.stops:
            await self._answer()

    def cut(self) -> bool:
        """Drop the connection; it comes back. False if there is none just now."""
        if self._writer is None or self._writer.transport.is_closing():
            return False
        self._writer.transport.abort()
        return True

    async def _answer(self) -> None:
        tokens = self._random.randint(self._longest // 6, self._longest)
        answer = Answer(self._counts, tokens)
        asked = _Asked(self._random.choice((_NATIVE, _CHAT)), tokens, self._key, uuid.uuid4().hex)
        deadline = time.monotonic() + tokens / TOKENS_PER_S + _PATIENCE_S
        while not answer.is_done:
            if time.monotonic() > deadline:
                self._counts.failed["not done in time"] += 1
                return
            try:
                await self._read(asked, answer)
            except Failed as error:
                self._counts.failed[str(error)] += 1
                return
            except (OSError, asyncio.IncompleteReadError, TimeoutError):
                pass
            if not answer.is_done:
                await asyncio.sleep(_AGAIN_AFTER_S * self._random.uniform(0.5, 1.5))

    async def _read(self, asked: _Asked, answer: Answer) -> None:
        """Read one connection to its end. Raises `OSError` and what else may break; `Failed`."""
        port = self._random.choice(self._ports)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        self._writer = writer
        self._counts.connections += 1
        self._counts.resumed += bool(asked.last_id)
        try:
            writer.write(asked.request())
            if not await self._is_taken(reader):
                return
            is_error = False
            while line := await asyncio.wait_for(reader.readline(), _SILENCE_S):
                is_error = is_error or line.startswith(b"event: error")
                if is_error and line.startswith(b"data: "):
                    raise Failed(line.decode()[:300])
                asked.hear(line, answer)
        finally:
            self._writer = None
            writer.close()

    async def _is_taken(self, reader: asyncio.StreamReader) -> bool:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _SILENCE_S)
        status, *lines = head.decode().lower().splitlines()
        if " 200 " in status:
            return True
        names = dict(line.split(": ", 1) for line in lines if ": " in line)
        body = await reader.read(2000)
        said = f"{status.split()[1]} {body.decode(errors='replace')[:300]}"
        if status.split()[1] not in ("409", "429", "500", "502", "503", "504"):
            raise Failed(said)
        code = json.loads(body[body.find(b"{") : body.rfind(b"}") + 1] or b"{}")
        code = code.get("code") or code.get("error", {}).get("code")
        self._counts.refused[f"{status.split()[1]} {code}"] += 1
        await asyncio.sleep(float(names.get("retry-after", _AGAIN_AFTER_S)))
        return False


class Failed(Exception):
    """An answer that ends with an error, or is refused for good."""


class _Asked:
    """A request that can be asked again where its answer broke off."""

    def __init__(self, path: str, tokens: int, key: str, name: str) -> None:
        self._path, self._key, self._name = path, key, name
        #: The last event that was taken in whole; the id of the one that is coming.
        self.last_id = self._coming_id = ""
        body = {"modelId": "mock", "prompt": "count", "maxTokens": tokens}
        if path == _CHAT:
            messages = [{"role": "user", "content": "count"}]
            body = {"model": "mock", "messages": messages, "max_tokens": tokens, "stream": True}
        self._body = json.dumps(body).encode()

    def request(self) -> bytes:
        headers = {"Host": "localhost", "X-API-Key": self._key, "Connection": "close"}
        headers |= {"Content-Type": "application/json", "Content-Length": str(len(self._body))}
        if self._name:
            headers["Idempotency-Key"] = self._name
        if self.last_id:
            headers["Last-Event-ID"] = self.last_id
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"POST {self._path} HTTP/1.1\r\n{lines}\r\n".encode() + self._body

    def hear(self, line: bytes, answer: Answer) -> None:
        """Take in a line of the stream. An id counts once its event is here."""
        if not line.endswith(b"\n"):
            return  # the connection broke in it
        if line.startswith(b"id: "):
            self._coming_id = line[4:].decode().strip()
        elif line.startswith(b"data: "):
            if line.startswith(b"data: [DONE]"):
                answer.end()
            else:
                self._event(json.loads(line[6:]), answer)
            self.last_id, self._coming_id = self._coming_id or self.last_id, ""

    def _event(self, event: dict[str, object], answer: Answer) -> None:
        if "error" in event:
            raise Failed(json.dumps(event["error"])[:300])
        match event:
            case {"text": str(text)} | {"choices": [{"delta": {"content": str(text)}}]}:
                answer.hear(text)
            case {"finishReason": _}:
                answer.end()


async def leave(port: int, key: str) -> bool:
    """Ask without an Idempotency-Key, and leave after the first token. True if it came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(_Asked(_NATIVE, 4000, key, "").request())
        while line := await asyncio.wait_for(reader.readline(), _SILENCE_S):
            if line.startswith(b"data: "):
                return True
        return False
    finally:
        writer.transport.abort()
