"""The server behind an `openai` model: started here if the configuration says how, awaited,
asked what it is, and watched."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import time
from typing import Any, Final, NamedTuple

import httpx

from contract.config import ModelConfig
from contract.process.ports import free_port
from workers.engine import CannotServe
from workers.engines.arguments import known
from workers.engines.openai.model_cards import ModelCard, listed, object_in

log = logging.getLogger(__name__)
_PROBE_EVERY_S: Final = 2.0
_PROBE_TIMEOUT_S: Final = 5.0
_TERMINATE_S: Final = 10.0
#: Of the server's list of models: large providers have hundreds.
_LARGEST_LIST: Final = 4_194_304
_LONGEST_VERSION: Final = 64
#: Servers close idle connections, uvicorn after 5 s; a request on one just closed would be lost.
_KEEPALIVE_S: Final = 2.0
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


@dataclasses.dataclass(frozen=True)
class UpstreamSettings:
    """The keys of `engine_args` for the `openai` engine."""

    connect_timeout_s: float = 5.0
    first_token_timeout_s: float = 120.0
    token_gap_timeout_s: float = 60.0
    #: The worker gives up its jobs once the server was unreachable for this long.
    lost_after_s: float = 20.0
    #: Ask for token counts in the stream; some old servers refuse to be asked.
    include_usage: bool = True
    #: OpenAI's own newer models want `max_completion_tokens`.
    max_tokens_name: str = "max_tokens"
    #: `vllm`, `tensorrt_llm`, `sglang`, `llamacpp`; what /models says if unset.
    server: str | None = None
    #: Added to every request.
    extra_body: dict[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, model: ModelConfig) -> UpstreamSettings:
        """Raises `CannotServe` for a name that is none of these."""
        return cls(**known(model.engine_args, cls, "openai"))


class Server(NamedTuple):
    """A server's description of itself; empty or None where it gives none."""

    kind: str = ""
    version: str = ""
    max_model_len: int | None = None


class UpstreamLost(Exception):
    """The server cannot be used (any more); the message says which, and why."""


class Upstream:
    """The server at `url`, which serves the model as `model`."""

    def __init__(self, model_id: str, config: ModelConfig, settings: UpstreamSettings) -> None:
        if not config.base_url and not config.command:
            raise ValueError(f"model {model_id}: the openai engine needs `base_url` or `command`")
        port = str(free_port()) if config.command else ""
        self.url = _api_url((config.base_url or "http://127.0.0.1:{port}").replace("{port}", port))
        self.root = self.url.removesuffix("/v1")
        self.model = config.upstream_model or model_id
        self._command = [part.replace("{port}", port) for part in config.command or ()]
        self._settings = settings
        self._start_timeout_s = config.start_timeout_s
        self._process: asyncio.subprocess.Process | None = None
        #: Why it is not used yet; empty if it is.
        self.obstacle = ""
        self._heard_at = 0.0
        self._looking: asyncio.Task[bool] | None = None
        self.client = httpx.AsyncClient(
            headers=_headers(config.api_key_env),
            timeout=httpx.Timeout(None, connect=settings.connect_timeout_s),
            limits=httpx.Limits(keepalive_expiry=_KEEPALIVE_S),
            trust_env=httpx.URL(self.url).host not in _LOOPBACK,
        )

    async def open(self) -> Server:
        """Start the server if that is ours to do, and wait until it answers for the model.

        Raises `UpstreamLost`, and `CannotServe` if the command cannot be run, or the server
        refuses the key or has no such model.
        """
        if self._command:
            # It stays in the worker's process group, so that it never outlives the worker.
            log.info("starting %s", " ".join(self._command))
            self._process = await self._start()
        cards = await self._first_answer()
        self.obstacle = ""
        mine = next((card for card in cards if card.id == self.model), None)
        if mine is None:
            await self._check_model(cards)
        card = mine or (cards[0] if cards else ModelCard())
        kind = self._settings.server or card.owned_by
        self.heard()
        return Server(kind, await self._version(), card.max_model_len)

    async def lost(self) -> UpstreamLost:
        """Return, with the reason, once the server has ended or was silent for too long."""
        while True:
            await asyncio.sleep(_PROBE_EVERY_S)
            if (end := self._ended()) is not None:
                return end
            if await self._answers():
                self.heard()
            elif time.monotonic() - self._heard_at > self._settings.lost_after_s:
                return UpstreamLost(f"{self.url} is out of reach")

    async def is_gone(self) -> bool:
        """Return whether nothing listens there any more. Calls at the same time share one look."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._refuses())
        return await asyncio.shield(self._looking)

    def heard(self) -> None:
        """The server gave a sign of life."""
        self._heard_at = time.monotonic()

    async def close(self) -> None:
        """Let go of the server, and end it if it was started here."""
        await self.client.aclose()
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), _TERMINATE_S)
        except asyncio.TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def _start(self) -> asyncio.subprocess.Process:
        try:
            return await asyncio.create_subprocess_exec(
                *self._command, env=_environment(), stdin=asyncio.subprocess.DEVNULL
            )
        except (FileNotFoundError, PermissionError) as error:
            raise CannotServe(f"`command`: {self._command[0]}: {error.strerror}") from error

    async def _first_answer(self) -> list[ModelCard]:
        deadline = time.monotonic() + self._start_timeout_s
        while True:
            try:
                return await self._models()
            except httpx.TransportError as error:
                reason = str(error) or type(error).__name__
            if (end := self._ended()) is not None:
                raise end
            if time.monotonic() > deadline:
                waited = f"{self._start_timeout_s:g} s"
                raise UpstreamLost(f"{self.url} did not answer within {waited}: {reason}")
            obstacle = f"{self.url} does not answer: {reason}"
            if obstacle != self.obstacle:
                log.info("waiting: %s", obstacle)
                self.obstacle = obstacle
            await asyncio.sleep(0.25)

    async def _models(self) -> list[ModelCard]:
        """Raises `httpx.TransportError` while the server is not ready, `CannotServe` if it
        refuses the key."""
        status, body = await self._get(f"{self.url}/models")
        if status in (401, 403):
            said = f"{self.url} refused the API key (HTTP {status})"
            raise CannotServe(f"{said}; check `api_key_env`")
        if status >= 500:
            raise httpx.TransportError(f"HTTP {status}")
        return listed(body)

    async def _check_model(self, cards: list[ModelCard]) -> None:
        """Not all servers list all names that they take; one token tells."""
        body = {"model": self.model, "messages": [{"role": "user", "content": "."}]}
        asked = {**body, self._settings.max_tokens_name: 1}
        url, most_s = f"{self.url}/chat/completions", self._settings.first_token_timeout_s
        async with self.client.stream("POST", url, json=asked, timeout=most_s) as response:
            status = response.status_code
        if status == 404:
            names = ", ".join(f"`{card.id}`" for card in cards) or "none"
            raise CannotServe(
                f"{self.url} has no model `{self.model}`; it lists {names}: set `upstream_model`"
            )

    async def _version(self) -> str:
        try:
            _, body = await self._get(f"{self.root}/version")
        except httpx.TransportError:
            return ""
        return str(object_in(body).get("version", ""))[:_LONGEST_VERSION]

    async def _answers(self) -> bool:
        try:
            status, _ = await self._get(f"{self.url}/models")
        except httpx.TransportError:
            return False
        return status < 500

    async def _get(self, url: str) -> tuple[int, bytes]:
        """Status and body, as much of it as is of use. Raises `httpx.TransportError`."""
        try:
            return await asyncio.wait_for(self._ask(url), _PROBE_TIMEOUT_S)
        except asyncio.TimeoutError:
            raise httpx.ReadTimeout(f"no answer within {_PROBE_TIMEOUT_S:g} s") from None
        except httpx.DecodingError as error:
            raise httpx.ReadError(str(error)) from error

    async def _ask(self, url: str) -> tuple[int, bytes]:
        async with self.client.stream("GET", url) as response:
            return response.status_code, await read_start(response, _LARGEST_LIST)

    async def _refuses(self) -> bool:
        try:
            await self._get(f"{self.url}/models")
        except httpx.ConnectError:
            return True
        except httpx.TransportError:
            return False
        return False

    def _ended(self) -> UpstreamLost | None:
        code = self._process.returncode if self._process is not None else None
        if code is None:
            return None
        return UpstreamLost(f"`{self._command[0]}` ended with code {code}; the log has its words")


async def read_start(response: httpx.Response, most_bytes: int) -> bytes:
    """Return a body, or so many bytes of it: no server may fill memory. Raises `RequestError`."""
    body = bytearray()
    async for part in response.aiter_bytes():
        body += part
        if len(body) >= most_bytes:
            break
    return bytes(body[:most_bytes])


def _api_url(base_url: str) -> str:
    """With /v1 where only a host is given, and no slash at the end."""
    url = httpx.URL(base_url)
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"`base_url`: {base_url} is no address like http://127.0.0.1:8000/v1")
    path = url.path.rstrip("/") or "/v1"
    return str(url.copy_with(path=path))


def _headers(api_key_env: str | None) -> dict[str, str]:
    # Compressed streams arrive in blocks, not in tokens.
    headers = {"Accept-Encoding": "identity", "Content-Type": "application/json"}
    if api_key_env is None:
        return headers
    key = os.environ.get(api_key_env)
    if not key:
        raise ValueError(f"`api_key_env`: the variable {api_key_env} is not set")
    return {**headers, "Authorization": f"Bearer {key}"}


def _environment() -> dict[str, str]:
    """Return the worker's, without what ew tells its own processes; but for the marks by which
    it is found and ended, whatever becomes of the worker."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith("EW_RUN_") or not name.startswith("EW_")
    }
