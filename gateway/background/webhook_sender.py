"""One webhook: a request as Standard Webhooks has it, signed, to an address that was looked at."""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone
from typing import Any, Final

import httpx
import orjson
from standardwebhooks import Webhook

from contract.bus.background_job import BackgroundJob
from gateway.background.receiver import Told
from gateway.http.outside_hosts import HostRefused, OutsideHosts

_TIMEOUT_S: Final = 15.0


class WebhookSender:
    """Asks the hosts that are allowed. Imported with the first webhook: few gateways have any, and
    an HTTP client takes long to import."""

    def __init__(self, hosts: OutsideHosts) -> None:
        self.hosts = hosts
        # Proxies of the environment would ask on, wherever they like.
        self._client = httpx.AsyncClient(
            timeout=_TIMEOUT_S, trust_env=False, follow_redirects=False
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def send(self, job: BackgroundJob, url: str, secret: str) -> Told:
        """Ask once, for at most 15 s."""
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
                async with self._client.stream(
                    "POST",
                    target.url,
                    content=body,
                    headers=headers,
                    extensions={"sni_hostname": target.host},
                ) as answer:
                    return Told(answer.status_code, f"answered with {answer.status_code}")
        except HostRefused as error:
            return Told(0, f"refused: {error}")
        except TimeoutError:
            return Told(0, "no answer in time", is_late=True)
        except httpx.TimeoutException:
            return Told(0, "no answer in time", is_late=True)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return Told(0, f"not reached: {error or type(error).__name__}")


def _message(job: BackgroundJob) -> dict[str, Any]:
    """Return the message that a job has ended, and how, without a word of the answer."""
    ended = datetime.fromtimestamp(job.ended_ms / 1000, timezone.utc)
    data = {"id": job.id, "modelId": job.about.model, "state": job.state.value}
    if job.outcome.error is not None:
        data["errorCode"] = job.outcome.error.code
    return {"type": f"job.{job.state.value}", "timestamp": ended.isoformat(), "data": data}
