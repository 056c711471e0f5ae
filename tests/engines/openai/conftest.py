"""Every test has an upstream, a model and a client of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.engines.openai.bench import Bench
from tests.engines.openai.scripted_upstream import ScriptedUpstream


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    upstream = ScriptedUpstream()
    await upstream.start()
    yield upstream
    await upstream.stop()


@pytest.fixture
async def bench(upstream: ScriptedUpstream, redis_url: str) -> AsyncIterator[Bench]:
    bench = Bench(upstream, redis_url)
    await bench.client.open()
    yield bench
    await bench.close()
