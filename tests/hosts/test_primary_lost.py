"""A whole ew over a primary behind Sentinels, TLS everywhere, as users of least privilege: the
primary is killed in the middle of answers."""

from __future__ import annotations

import json
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from contract.process.ports import free_port
from tests.failover_tls import PROGRAM, WITHOUT, tls_servers
from tests.running_ew import Ew
from tests.waiting import eventually

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(PROGRAM is None, reason=WITHOUT),
]
_ANSWERS = 4
_TOKENS = 1000


def test_answers_go_on_at_the_server_that_sentinels_promote() -> None:
    with tempfile.TemporaryDirectory(prefix="ew-") as home, tls_servers() as servers:
        ew = Ew(Path(home) / "state", free_port())
        model = {"engine": "mock", "model_path": "none", "engine_args": {"tokens_per_s": 50}}
        config = Path(home) / "config.json"
        config.write_text(json.dumps({"models": {"m": model}, "redis": {"url": servers.url}}))
        ew.environment["EW_CONFIG"] = str(config)
        try:
            started = ew.run("start")
            assert started.returncode == 0, started.stderr
            key = ew.run("keys", "add", "caller").stdout.strip()

            def ask() -> str:
                body = {"modelId": "m", "prompt": "count", "maxTokens": _TOKENS}
                url, headers = f"{ew.url}/api/v1/inference", {"X-API-Key": key}
                answer = httpx.post(url, json=body, headers=headers, timeout=120)
                assert answer.status_code == 200, answer.text
                return str(answer.json()["text"])

            with ThreadPoolExecutor(_ANSWERS) as pool:
                answers = [pool.submit(ask) for _ in range(_ANSWERS)]
                eventually(lambda: ew.status()["models"][0]["running"] == _ANSWERS, 30)
                servers.kill_primary()
                assert not any(map(Future.done, answers)), "the fault came too late"
                whole = "".join(f"{number} " for number in range(_TOKENS))
                assert {each.result() for each in answers} == {whole}
            assert ew.status()["redis"]["state"] == "ready"
            assert servers.second.says("role", "master")
        finally:
            ew.run("stop", "--now")
            for process in ew.processes():
                process.kill()
