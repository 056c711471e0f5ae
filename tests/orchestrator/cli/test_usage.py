"""`./ew usage`."""

from __future__ import annotations

import asyncio
import csv
import json
from datetime import UTC, date, datetime, timedelta
from io import StringIO
from types import SimpleNamespace
from typing import Any, cast

import pytest

from contract.bus.client import connect
from contract.bus.queue import JobQueue
from contract.bus.records.use_progress import UseProgress
from contract.config import Config
from contract.usage import MOST_DAYS
from orchestrator.client.records import usage as records
from orchestrator.config.key_file import KeyFile
from tests.conftest import ValkeyServer
from tests.gateway.api.native.test_usage import use
from tests.orchestrator.conftest import Host, Terminal


async def use_some(url: str, key: str) -> None:
    db = connect(url)
    for model, of, tokens in (("a", key, 10), ("a", "gone", 5), ("b c", key, 100)):
        await UseProgress(db, model).open()
        await use(JobQueue(db, model), db, of, tokens)
    await db.aclose()


@pytest.fixture
def redis(own_valkey: ValkeyServer) -> dict[str, str]:
    return {"EW_REDIS__URL": own_valkey.url}


def test_usage_is_shown_by_key_model_and_day(
    host: Host, terminal: Terminal, redis: dict[str, str]
) -> None:
    terminal.configure(a={})
    assert "nothing was used" in terminal.run("usage", **redis).err
    key = KeyFile().add("=alice", ("*",), None).record.id
    asyncio.run(use_some(redis["EW_REDIS__URL"], key))
    shown = terminal.run("usage", **redis).out.splitlines()
    assert [line.split()[0] for line in shown] == ["KEY", *sorted((key, "gone")), "all"]
    total = "3 0 0 115 3 6 0 4.5 s"
    assert " ".join(shown[-1].split()) == f"all {total}"
    assert any(line.startswith(f"{key} =alice ") for line in shown)
    by_model = terminal.run("usage", "--by", "day", "--by", "model", "--csv", **redis).out
    rows = list(csv.DictReader(StringIO(by_model)))
    assert [(row["model"], row["prompt_tokens"]) for row in rows] == [("a", "15"), ("b c", "100")]
    days = {row["day"] for row in rows}
    told = json.loads(terminal.run("usage", "--json", "--since", min(days), **redis).out)
    names = {
        row["key"]: (row["name"], row["requests"], row["engine_seconds"]) for row in told["usage"]
    }
    assert names == {key: ("=alice", 2, 3.0), "gone": ("", 1, 1.5)}
    assert told["since"] == min(days) <= datetime.now(UTC).date().isoformat()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--by", "prompt"), "no usage by `prompt`"),
        (("--since", "soon"), "`soon` is no day"),
        (("--since", "1d", "--until", "2d"), "is after"),
        (("--csv", "--json"), "both"),
        ((), "no Redis answers"),
    ],
)
def test_what_cannot_be_shown_is_told(
    host: Host, terminal: Terminal, arguments: tuple[str, ...], told: str
) -> None:
    terminal.configure(a={})
    failed = terminal.run("usage", *arguments)
    assert failed.code == 1
    assert told in failed.err


def test_no_more_days_are_asked_for_than_may_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = SimpleNamespace(report=lambda since, until, **_: (until - since).days)
    monkeypatch.setattr(records, "UsageAccounts", lambda _: asked)
    monkeypatch.setattr(records, "ask_redis", lambda _, ask: ask(None))
    until, config, read = date(2026, 11, 29), Config(), cast(Any, records.read_usage)
    assert read(config, records.day_of("99999d"), until, ()) == MOST_DAYS
    assert read(config, until - timedelta(7), until, ()) == 7
    assert read(config, date.min, date.min + timedelta(3), ()) == 3
