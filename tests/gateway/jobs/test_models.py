"""Models as a gateway process sees them while the configuration changes."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path
from typing import Any

from contract.bus.client import connect
from contract.config import Config
from gateway.jobs.models import Models
from tests.gateway.scripted_worker import ScriptedWorker


async def test_a_model_that_the_file_has_no_more_is_followed_until_its_workers_have_gone(
    redis_url: str, tmp_path: Path
) -> None:
    link: Any = None
    given = {"models": {"taken-out": {"engine": "mock", "model_path": "none"}}}
    async with aclosing(connect(redis_url)) as db:
        models = Models(db, Config.model_validate(given), tmp_path / "config.json", link)
        async with ScriptedWorker(redis_url, "taken-out") as worker:
            await models._look()
            models.configured = {}
            await models._look()
            assert [each.name for each in models.status("taken-out").workers] == [worker.name]
        await models._look()
        # So that what waits for it can be told that it has ended.
        assert models.status("taken-out").workers == ()
