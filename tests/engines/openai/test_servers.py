"""Servers that come and go, and servers that ew starts."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from contract.messages import State
from tests.engines.openai.bench import Bench, never, says
from tests.waiting import until
from workers.engine import CannotServe
from workers.engine_state import EngineDied
from workers.engines.openai.engine import OpenAiEngine
from workers.engines.openai.upstream import UpstreamLost


async def test_a_worker_waits_until_its_server_answers_and_says_so(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    await bench.upstream.stop()
    worker = bench.worker()
    said = f"{bench.upstream.url} does not answer: "
    await until(lambda: said in caplog.text)
    assert worker.state is State.STARTING
    beat = worker.heartbeat()
    # Clients are told the stage, and not where the server is.
    assert beat.stage == "waiting for the server behind it"
    assert beat.remark.startswith(said)
    await bench.upstream.start()
    await until(lambda: worker.state is State.READY)
    assert (worker.heartbeat().stage, worker.heartbeat().remark) == ("", "")
    assert (await bench.ask("hi")).text == "Hello you."


async def test_a_server_that_stays_away_ends_the_start(bench: Bench) -> None:
    await bench.upstream.stop()
    with pytest.raises(UpstreamLost, match=r"did not answer within 0\.3 s"):
        await bench.ready(start_timeout_s=0.3)


async def test_a_server_that_is_not_ready_yet_is_waited_for(bench: Bench) -> None:
    bench.upstream.models_status = 503
    worker = bench.worker()
    await until(lambda: bench.upstream.looked >= 2)
    assert worker.state is State.STARTING
    bench.upstream.models_status = 200
    await until(lambda: worker.state is State.READY)


async def test_a_refused_key_ends_the_start_at_once(bench: Bench) -> None:
    bench.upstream.models_status = 401
    with pytest.raises(CannotServe, match=r"refused the API key.*api_key_env"):
        await bench.ready()


async def test_a_model_that_the_server_lacks_ends_the_start(bench: Bench) -> None:
    bench.upstream.answer = lambda exchange: exchange.refuse(404, "{}")
    with pytest.raises(CannotServe, match="has no model `down`; it lists `up`"):
        await bench.ready(upstream_model="down")


async def test_a_model_that_is_served_unlisted_is_taken(bench: Bench) -> None:
    bench.upstream.models = [{"id": "/models/weights.gguf", "owned_by": "llamacpp"}]
    worker = await bench.ready(upstream_model="anything")
    assert worker.report.version == "llamacpp 0.32.0"


async def test_a_server_that_restarts_is_waited_for_by_the_jobs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = []

    async def ask(self: OpenAiEngine, stream: Any) -> bool:
        arrived = await OpenAiEngine._ask(self, stream)
        refused.append(not arrived)
        return arrived

    worker = await bench.ready()
    monkeypatch.setattr(worker.engine, "_ask", ask.__get__(worker.engine))
    await bench.upstream.stop()
    answer = await bench.client.put("hi")
    await until(lambda: len(refused) >= 2)
    await bench.upstream.start()
    assert (await answer.ended()).text == "Hello you."


async def test_a_worker_whose_server_is_gone_gives_up_and_leaves_its_jobs_open(
    bench: Bench,
) -> None:
    await bench.ready(engine_args={"lost_after_s": 1.0})
    await bench.upstream.stop()
    answer = await bench.client.put("hi")
    with pytest.raises(EngineDied, match="out of reach"):
        await asyncio.wait_for(bench.runs[0], 20)
    assert answer.end is None
    await bench.upstream.start()
    await bench.ready()
    assert (await answer.ended()).text == "Hello you."
    assert len(answer.attempts) == 2


async def test_a_server_that_dies_mid_answer_is_an_engine_that_died(bench: Bench) -> None:
    bench.upstream.answer = says("Hel", then=never)
    await bench.ready()
    answer = await bench.client.put("hi")
    await answer.speaks()
    await bench.upstream.stop()
    with pytest.raises(EngineDied, match="broke"):
        await asyncio.wait_for(bench.runs[0], 20)
    bench.upstream.answer = says("Hello", " you.")
    await bench.upstream.start()
    await bench.ready()
    assert (await answer.ended()).text == "Hello you."


async def test_an_answer_that_turns_out_differently_fails_and_is_given_up(bench: Bench) -> None:
    bench.upstream.answer = says("Hello", then=never)
    first = await bench.ready()
    answer = await bench.client.put("hi")
    await answer.speaks()
    bench.upstream.answer = says("Good morning", then=never)
    await bench.ready()
    first.stop()
    failed = (await answer.ended()).failed
    assert (failed.code, failed.retryable) == ("engine_lost", True)
    assert answer.text == "Hello"
    await asyncio.wait_for(bench.upstream.exchanges[-1].left.wait(), 10)


SERVER = """
import http.server, json, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        seen = ",".join(name for name in os.environ if name.startswith("EW_"))
        body = json.dumps({"data": [{"id": "up", "owned_by": seen}]})
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())
    def log_message(self, *_):
        pass
open(sys.argv[2], "w").write(str(os.getpid()))
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def server_command(note: Path) -> list[str]:
    return [sys.executable, "-c", SERVER, "{port}", str(note)]


async def test_a_server_of_ours_starts_and_ends_with_the_worker(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("EW_WORKER", "EW_REDIS__URL", "EW_REDIS_URL"):
        monkeypatch.setenv(name, "redis://:secret@host")
    monkeypatch.setenv("EW_RUN_ID", "mark")
    note = tmp_path / "pid"
    worker = await bench.ready(base_url=None, command=server_command(note))
    pid = int(note.read_text())
    assert worker.report.version.strip() == "EW_RUN_ID", "it can see the address of the queue"
    worker.stop()
    await asyncio.wait_for(bench.runs[0], 10)
    assert not psutil.pid_exists(pid)


async def test_a_server_of_ours_that_dies_ends_the_worker(bench: Bench, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    await bench.ready(base_url=None, command=server_command(note))
    process = await asyncio.create_subprocess_exec("kill", "-9", note.read_text())
    await process.wait()
    with pytest.raises(EngineDied, match="ended with code -9"):
        await asyncio.wait_for(bench.runs[0], 10)


async def test_a_server_of_ours_that_cannot_start_ends_the_start(bench: Bench) -> None:
    with pytest.raises(UpstreamLost, match="ended with code 3"):
        await bench.ready(base_url=None, command=[sys.executable, "-c", "exit(3)", "{port}"])
