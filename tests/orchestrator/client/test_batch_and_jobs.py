"""`./ew batch` and `./ew jobs`, with the real gateway and a mock engine behind it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pexpect
import pytest

from contract.keys import make_key
from contract.process.ports import free_port
from orchestrator.client.batches import endpoint_of
from tests.orchestrator.conftest import Host
from tests.orchestrator.terminal import Result, Terminal
from tests.waiting import eventually

CHAT = "/v1/chat/completions"
LARGE = 96 << 20
#: Runs a command, and prints how much memory it took at most: since exec, unlike rusage's.
MEASURED = """
import pathlib, sys
from orchestrator.cli import main
code = main(sys.argv[1:])
print(pathlib.Path("/proc/self/status").read_text())
sys.exit(code)
"""


@pytest.fixture(scope="module")
def ready(shared_host: Host) -> Terminal:
    """Everything started, and a key in the environment."""
    terminal = Terminal(shared_host.directory)
    terminal.configure(demo={"engine_args": {"default_tokens": 3}})
    config = json.loads(terminal.config.read_text())
    # A gateway that starts again is where it was.
    config["gateway"]["port"] = free_port()
    terminal.config.write_text(json.dumps(config))
    started = terminal.run("start")
    assert started.code == 0, started
    terminal.environment["EW_API_KEY"] = terminal.run("keys", "add", "operator").out.strip()
    return terminal


def write(terminal: Terminal, name: str, *words: str, model: str = "demo") -> Path:
    """Write a file with one request for each of the words."""
    path = terminal.config.parent / name
    lines = [
        {
            "custom_id": f"{model}{number}",
            "method": "POST",
            "url": CHAT,
            "body": {"model": model, "messages": [{"role": "user", "content": each}]},
        }
        for number, each in enumerate(words)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def read(path: Path) -> dict[str, dict[str, object]]:
    return {line["custom_id"]: line for line in map(json.loads, path.read_text().splitlines())}


def begun(result: Result) -> str:
    """Return the id of the batch that a command has begun."""
    return next(word for word in result.err.split() if word.startswith("batch_"))


def test_a_file_is_run_and_shown(ready: Terminal) -> None:
    path = write(ready, "asked.jsonl", "a", "b", "c")
    ran = ready.run("batch", "run", "asked.jsonl")
    assert (ran.code, ran.out) == (0, ""), ran
    batch = begun(ran)
    assert f"{batch} is completed: 3 requests were answered" in ran.err
    answers = path.with_name("asked.output.jsonl")
    assert sorted(read(answers)) == ["demo0", "demo1", "demo2"]
    assert "0 1 2 " in answers.read_text()
    assert not path.with_name("asked.errors.jsonl").exists()

    shown = ready.run("batch", "show", batch)
    assert "state     completed\n" in shown.out
    assert "3, 3 answered, 0 failed" in shown.out
    listed = ready.run("batch", "list", "--limit", "1").out.splitlines()
    assert (len(listed), listed[1].split()[:2]) == (2, [batch, "completed"])
    found = json.loads(ready.run("batch", "list", "--json").out)
    assert found[0] == json.loads(ready.run("batch", "show", batch, "--json").out)

    # A file that is there is not written over, unless that is asked for.
    again = ready.run("batch", "run", "asked.jsonl")
    assert again.code == 1
    assert again.err == (
        "error: asked.output.jsonl is there already\n"
        "hint: `--out` names another file, `--force` replaces it\n"
    )
    answers.write_text("old")
    waited = ready.run("batch", "wait", batch, "--out", answers.name, "--force", "--json")
    assert (waited.code, json.loads(waited.out)["id"]) == (0, batch), waited
    assert len(read(answers)) == 3
    ended = ready.run("batch", "cancel", batch)
    assert (ended.code, "the batch is completed already" in ended.err) == (1, True), ended


def test_lines_that_fail_are_told_and_written(ready: Terminal) -> None:
    good, bad = write(ready, "good.jsonl", "a"), write(ready, "bad.jsonl", "b", model="none")
    both = good.with_name("both.jsonl")
    both.write_text(good.read_text() + bad.read_text())
    ran = ready.run("batch", "run", "both.jsonl", "--out", "out.jsonl")
    assert ran.code == 1, ran
    assert f"error: {begun(ran)} is completed: 1 of 2 requests were answered" in ran.err
    assert "hint: out.errors.jsonl says why the others were not" in ran.err
    assert list(read(both.with_name("out.jsonl"))) == ["demo0"]
    assert list(read(both.with_name("out.errors.jsonl"))) == ["none0"]


def test_it_outlives_a_stop_and_ctrl_c_leaves_it_running(
    ready: Terminal, shared_host: Host
) -> None:
    slow = write(ready, "slow.jsonl", "a", "[[first_token_delay_s=3600]]")
    ran = ready.spawn("batch", "run", slow.name, "--out", "slow out.jsonl")
    ran.expect("(batch_[0-9a-f]+) has begun")
    assert ran.match is not None
    batch = ran.match[1]
    ran.expect("in_progress: 1 of 2, ")
    assert ready.run("stop", "--now").code == 0
    ran.expect("the gateway does not answer")
    assert ready.run("start").code == 0
    ran.expect("in_progress: 1 of 2, ")
    ran.sendintr()
    ran.expect(f"{batch} goes on; `./ew batch cancel {batch}` ends it")
    ran.expect(f"`./ew batch wait {batch} --out 'slow out.jsonl'` comes back")
    ran.expect(pexpect.EOF)
    assert ran.wait() == 130
    assert "in_progress" in ready.run("batch", "show", batch).out

    cancelled = ready.run("batch", "cancel", batch)
    assert (cancelled.code, "state     cancel" in cancelled.out) == (0, True), cancelled
    waited = ready.run("batch", "wait", batch, "--out", "slow out.jsonl")
    assert waited.code == 1
    assert f"error: {batch} is cancelled: 1 of 2 requests were answered" in waited.err
    assert list(read(slow.with_name("slow out.jsonl"))) == ["demo0"]
    assert list(read(slow.with_name("slow out.errors.jsonl"))) == ["demo1"]


def test_a_large_file_is_streamed(ready: Terminal) -> None:
    """Its lines are wrong in what only the gateway checks."""
    path = ready.config.parent / "large.jsonl"
    line = json.dumps({"url": CHAT, "method": "GET", "custom_id": "x", "body": "y" * 60_000}) + "\n"
    with path.open("w") as file:
        for _ in range(LARGE // len(line)):
            file.write(line)
    command = [sys.executable, "-P", "-c", MEASURED, "batch", "run", path.name]
    done = subprocess.run(
        command,
        env=ready.environment,
        cwd=path.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    path.unlink()
    assert done.returncode == 1, done
    assert "  line 1, `method`, must be POST\n  line 2, " in done.stderr
    assert "and 45 more" in done.stderr
    assert "nothing was asked" in done.stderr
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", done.stdout)
    assert int(peak) * 1024 < LARGE


def test_what_is_checked_is_told_at_each_percent(tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    path.write_text(f'{{"url": "{CHAT}"}}\n' * 1_000)
    told: list[str] = []
    assert endpoint_of(path, told.append) == CHAT
    assert told == [f"checking many.jsonl: {percent} %" for percent in range(101)]


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (None, "wrong.jsonl is not there", "name a file of requests"),
        ("\n \n", "wrong.jsonl has no requests", "each line is `{"),
        ('{"url": "/v1/embeddings"}\n\n{"url"\n', "wrong.jsonl, line 3: not valid JSON: ", "each"),
        ("[]\n", "wrong.jsonl, line 1: no JSON object", "each line is `{"),
        ('{"body": {}}\n', "wrong.jsonl, line 1: no `url`", "`--endpoint` names one"),
        ('{"url": "/v1/nothing"}\n', "must be one of /v1/chat/completions", ""),
    ],
)
def test_a_wrong_file_is_told(
    ready: Terminal, content: str | None, message: str, hint: str
) -> None:
    path = ready.config.parent / "wrong.jsonl"
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_text(content)
    ran = ready.run("batch", "run", path.name)
    assert ran.code == 1, ran
    assert message in ran.err
    assert hint in ran.err
    assert not path.with_name("wrong.output.jsonl").exists()


def test_what_is_missing_is_told(ready: Terminal) -> None:
    write(ready, "fine.jsonl", "a")
    hint = "hint: `export EW_API_KEY=$(./ew keys add NAME)` makes one and uses it\n"
    without = ready.run("batch", "run", "fine.jsonl", EW_API_KEY="")
    assert without.err == f"error: no API key: EW_API_KEY is not set\n{hint}"
    unknown = ready.run("batch", "run", "fine.jsonl", EW_API_KEY=make_key().text)
    assert unknown.err == (
        "error: the gateway refuses the key in EW_API_KEY: it is unknown, expired or revoked\n"
        + hint
    )
    nowhere = ready.run("batch", "run", "fine.jsonl", "--out", "no/where.jsonl")
    assert nowhere.err == "error: no directory no\nhint: make it, or name another file\n"
    for command in ("show", "cancel", "wait"):
        none = ready.run("batch", command, "batch_none")
        assert none.code == 1
        assert none.err == (
            "error: no batch `batch_none` of this key\nhint: `./ew batch list` shows them\n"
        )


def test_jobs_are_listed_shown_and_cancelled(ready: Terminal) -> None:
    assert "no jobs of this key" in ready.run("jobs", "list").err
    done = post(ready, "hi")
    eventually(lambda: state(ready, done) == "done")
    shown = ready.run("jobs", "show", done)
    assert f"job       {done}\nstate     done\nmodel     demo\nattempts  1\n" in shown.out
    assert shown.out.endswith("\n\n0 1 2 \n")
    late = ready.run("jobs", "cancel", done)
    assert (late.code, "the job is done already" in late.err) == (1, True), late
    assert state(ready, done) == "done"

    slow = post(ready, "[[first_token_delay_s=3600]]")
    cancelled = ready.run("jobs", "cancel", slow)
    assert (cancelled.code, "state     cancelled\n" in cancelled.out) == (0, True), cancelled
    assert "error     cancelled: the job was cancelled\n" in cancelled.out
    listed = [line.split()[:2] for line in ready.run("jobs", "list").out.splitlines()[1:]]
    assert listed == [[slow, "cancelled"], [done, "done"]]
    found = json.loads(ready.run("jobs", "list", "--json", "--limit", "1").out)
    assert [each["id"] for each in found] == [slow]
    none = ready.run("jobs", "show", "job_none")
    assert none.err == "error: no job `job_none` of this key\nhint: `./ew jobs list` shows them\n"


def post(terminal: Terminal, prompt: str) -> str:
    """Return the id of a new job."""
    port = json.loads(terminal.config.read_text())["gateway"]["port"]
    answer = httpx.post(
        f"http://127.0.0.1:{port}/api/v1/jobs",
        json={"modelId": "demo", "prompt": prompt},
        headers={"X-API-Key": terminal.environment["EW_API_KEY"]},
    )
    return str(answer.raise_for_status().json()["id"])


def state(terminal: Terminal, job: str) -> str:
    return str(json.loads(terminal.run("jobs", "show", job, "--json").out)["state"])


def test_without_a_gateway_it_says_what_to_do(host: Host, terminal: Terminal) -> None:
    write(terminal, "fine.jsonl", "a")
    ran = terminal.run("batch", "run", "fine.jsonl", EW_API_KEY=make_key().text)
    assert ran.code == 1
    assert ran.err == "error: the gateway does not run\nhint: `./ew start`\n"


def test_where_requests_need_no_key_a_batch_needs_none(ready: Terminal) -> None:
    assert ready.run("keys", "anonymous", "operator").code == 0
    write(ready, "open.jsonl", "a")
    ran = ready.run("batch", "run", "open.jsonl", EW_API_KEY="")
    assert ran.code == 0, ran
    assert ready.run("keys", "anonymous", "--off").code == 0
