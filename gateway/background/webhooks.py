"""Tells the end of background jobs: requests as Standard Webhooks has them, signed, and tried again
until they are taken. Whichever gateway process looks first sends what is due."""

from __future__ import annotations

import asyncio
import logging
import random
from datetime import datetime, timezone
from typing import Any, Final

import httpx
import orjson
from redis.exceptions import RedisError
from standardwebhooks import Webhook

from contract.bus.background import BackgroundJobs
from contract.bus.background_job import BackgroundJob
from gateway.background.webhook_hosts import WebhookHosts, WebhookRefused

log = logging.getLogger(__name__)
_LOOK_EVERY_S: Final = 1.0
_AT_ONCE: Final = 16
_TIMEOUT_S: Final = 15.0
#: Longer than a try may take: if its process dies, another one tries.
_AGAIN_AFTER_MS: Final = 60_000
#: As the specification recommends: after 5 s, 5 and 30 min, 2, 5, 10, 14, 20 and 24 h.
_WAITS_S: Final = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
#: The receiver wants no more of it.
_GONE: Final = 410


class Webhooks:
    """Sends what is due, to hosts that are allowed."""

    def __init__(self, records: BackgroundJobs, hosts: WebhookHosts) -> None:
        self.hosts = hosts
        self._records = records
        self._client: httpx.AsyncClient | None = None

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                await asyncio.sleep(_LOOK_EVERY_S)
                try:
                    due = await self._records.webhooks_due(_AT_ONCE, _AGAIN_AFTER_MS)
                    await asyncio.gather(*map(self._tell, due))
                except (RedisError, OSError) as error:
                    log.debug("webhooks are not looked at: %s", error)
        finally:
            if self._client is not None:
                await self._client.aclose()

    async def _tell(self, job: BackgroundJob) -> None:
        if job.webhook is None:
            return
        status, word = await self._send(job, job.webhook.url, job.webhook.secret)
        is_over = 200 <= status < 300 or status == _GONE or job.webhook_tries >= len(_WAITS_S)
        wait_s = None if is_over else _WAITS_S[job.webhook_tries] * random.uniform(1, 1.2)  # noqa: S311
        log.info("webhook of %s: %s", job.id, word)
        await self._records.webhook_tried(job, word, wait_s)

    async def _send(self, job: BackgroundJob, url: str, secret: str) -> tuple[int, str]:
        """Answers the status, 0 if there is none, and in words what came of it."""
        body = orjson.dumps(_message(job))
        now = datetime.now(timezone.utc)
        signature = Webhook(secret).sign(job.id, now, body.decode())
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                target = await self.hosts.target(url)
                headers = {
                    "host": target.netloc,
                    "content-type": "application/json",
                    "user-agent": "ew",
                    "webhook-id": job.id,
                    "webhook-timestamp": str(int(now.timestamp())),
                    "webhook-signature": signature,
                }
                # Its answer's body is not read.
                async with self._connected().stream(
                    "POST",
                    target.url,
                    content=body,
                    headers=headers,
                    extensions={"sni_hostname": target.host},
                ) as answer:
                    return answer.status_code, f"answered with {answer.status_code}"
        except WebhookRefused as error:
            return 0, f"refused: {error}"
        except TimeoutError:
            return 0, "no answer in time"
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return 0, f"not reached: {error or type(error).__name__}"

    def _connected(self) -> httpx.AsyncClient:
        # Proxies of the environment would ask on, wherever they like.
        if self._client is None:
            self._client = httpx.AsyncClient(
                timeout=_TIMEOUT_S, trust_env=False, follow_redirects=False
            )
        return self._client


def _message(job: BackgroundJob) -> dict[str, Any]:
    """What is told: that it ended and how, without a word of the answer."""
    ended = datetime.fromtimestamp(job.ended_ms / 1000, timezone.utc)
    data = {"id": job.id, "modelId": job.about.model, "state": job.state.value}
    if job.outcome.error is not None:
        data["errorCode"] = job.outcome.error.code
    return {"type": f"job.{job.state.value}", "timestamp": ended.isoformat(), "data": data}
