"""`./ew bench` with the real gateway, and a mock engine of 200 tokens a second and stream."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import Any

import pexpect
import pytest

from orchestrator.benchmark import load_test
from orchestrator.benchmark.load_test import LoadTest, ServerUnderTest, Sweep
from orchestrator.benchmark.sender_task import Endpoint
from tests.orchestrator.conftest import Host
from tests.orchestrator.terminal import Terminal

QUICK = ("--warm-up", "0", "--seconds", "1", "--tokens", "20")
RATE = 200


@pytest.fixture(scope="module")
def ready(shared_host: Host) -> Terminal:
    terminal = Terminal(shared_host.directory)
    terminal.configure(demo={"engine_args": {"tokens_per_s": RATE}})
    started = terminal.run("start")
    assert started.code == 0, started
    return terminal


@pytest.fixture(scope="module")
def key(ready: Terminal) -> str:
    return ready.run("keys", "add", "operator").out.strip()


@pytest.fixture(scope="module")
def url(ready: Terminal) -> str:
    status = json.loads(ready.run("status", "--json").out)
    return f"{status['gateway']['url']}/v1"


def read(terminal: Terminal, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((terminal.config.parent / name).read_text())
    return found


def test_a_sweep_of_two_servers(ready: Terminal, key: str, url: str) -> None:
    done = ready.run(
        *("bench", "demo", *QUICK, "--streams", "1,4", "--against", url),
        *("--json", "out.json", "--svg", "out.svg"),
        OPENAI_API_KEY=key,
    )
    assert done.code == 0, done
    result = read(ready, "out.json")
    assert [each["name"] for each in result["servers"]] == ["ew", "against"]
    runs = {(run["server"], run["streams"]): run for run in result["runs"]}
    assert set(runs) == {(0, 1), (1, 1), (0, 4), (1, 4)}
    for (_, streams), run in runs.items():
        # No stream is faster than the engine, whatever else the host does.
        assert 0 < run["tokens_per_s"] <= 1.05 * RATE * streams
        assert run["requests"]["good"] > 0
        assert run["requests"]["failed"] == 0
        assert run["ttft_ms"]["p50"] > 0
        assert run["generator"]["processes"] >= 1
        assert sum(run["tokens_by_second"]) == pytest.approx(
            run["tokens_per_s"] * run["seconds"], rel=0.02
        )
    table = done.out.splitlines()
    assert table[0].split()[:3] == ["server", "streams", "tok/s"]
    assert len([line for line in table if "█" in line or "▏" in line]) >= 1
    picture = ET.fromstring((ready.config.parent / "out.svg").read_text())  # noqa: S314
    assert len(picture.findall(".//{*}circle")) == 12
    # Its own key is gone.
    assert "ew bench" not in ready.run("keys", "list").out


def test_ctrl_c_shows_what_was_measured(ready: Terminal) -> None:
    options = ("--streams", "2", "--tokens", "5", "--warm-up", "0", "--json", "cut.json")
    bench = ready.spawn("bench", "demo", *options)
    bench.expect("2 streams, [1-9] of 10 s")
    bench.sendintr()
    bench.expect("~ was interrupted")
    bench.expect(pexpect.EOF)
    assert bench.wait() == 130
    (run,) = read(ready, "cut.json")["runs"]
    assert run["is_interrupted"]
    assert run["seconds"] < 10
    assert run["requests"]["good"] > 0


def test_a_recording_is_sent_when_its_requests_are_due(ready: Terminal) -> None:
    question = [{"role": "user", "content": "hi"}]
    bodies = [
        {"messages": question, "stream": True, "max_tokens": 5},
        {"messages": question, "max_tokens": 5},
        {"messages": "hi"},
    ]
    lines = [json.dumps({"at": number, "body": body}) for number, body in enumerate(bodies)]
    recording = ready.config.parent / "recorded.jsonl"
    recording.write_text("\n".join(lines))
    options = ("--replay", str(recording), "--speed", "2", "--json", "replay.json")
    done = ready.run("bench", "demo", *options)
    assert done.code == 0, done
    (run,) = read(ready, "replay.json")["runs"]
    assert run["requests"] == {"good": 2, "failed": 1, "cut": 0}
    assert 1 <= run["seconds"] < 30
    assert sum(run["tokens_by_second"]) == 10
    assert "1 x with replay: 400: `messages`" in done.out


def test_who_does_not_answer_is_named(ready: Terminal, url: str) -> None:
    unknown = ready.run("bench", "dmeo", *QUICK)
    assert unknown.code == 1
    assert "ew does not answer for `dmeo`: 404" in unknown.err
    keyless = ready.run("bench", "demo", "--url", url, *QUICK, OPENAI_API_KEY="wrong")
    assert "server does not answer for `demo`: 401" in keyless.err
    closed = ready.run("bench", "demo", "--url", "http://127.0.0.1:1/v1", *QUICK)
    assert "Connection refused" in closed.err
    assert ready.run("bench", "demo", "--streams", "1,x").err.startswith("error: `--streams 1,x`")


def test_a_busy_generator_is_given_more_processes(
    url: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_test, "BUSY", 0.0)
    monkeypatch.setattr(load_test, "most_processes", lambda: 2)
    told: list[str] = []
    server = ServerUnderTest("ew", Endpoint.of(url, key), "demo")
    sweep = Sweep([4], 0.5, 0, 20, 10, "completions", ends_naturally=False)
    (run,) = LoadTest([server], None, told.append).sweep(sweep)
    assert run.generator.processes == 2
    assert any("2 processes instead of 1" in each for each in told)
    assert run.requests.good > 0


def test_two_models_are_compared(ready: Terminal, url: str, key: str) -> None:
    prompts = ready.config.parent / "prompts.txt"
    prompts.write_text("hello\n[[think=3]] how are you\n")
    options = ("--prompts", str(prompts), "--tokens", "5", "--against", url)
    answers = ready.config.parent / "answers.jsonl"
    command = ("compare", "demo", "demo", *options, "--json", "--answers", str(answers))
    done = ready.run(*command, OPENAI_API_KEY=key)
    assert done.code == 0, done
    found = json.loads(done.out)
    assert found["parity"]["compared"] == found["parity"]["same_text"] == 2
    assert [side["finish_reasons"] for side in found["sides"]] == [{"length": 2}] * 2
    assert all(side["ttft_ms"]["p50"] > 0 for side in found["sides"])
    written = [json.loads(line) for line in answers.read_text().splitlines()]
    assert sorted(each["a"]["text"] for each in written) == [
        "0 1 2 3 4 ",
        "[reasoning] 0 1 2 [answer] 3 4 ",
    ]
    shown = ready.run("compare", "demo", "demo", *options[:4])
    assert "same text           2 of 2 (100 %)" in shown.out
    assert "demo tells none" in shown.out
    assert "ew compare" not in ready.run("keys", "list").out
