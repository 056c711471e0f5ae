"""`ew` from the first start to the last stop, in a terminal, with the real gateway and workers."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
from datetime import datetime

import httpx
import pexpect
import pytest

from contract.paths import run_dir
from contract.process.ports import free_port
from orchestrator.client.reach import is_running
from tests.orchestrator.conftest import Host, is_alive
from tests.orchestrator.terminal import Terminal
from tests.waiting import eventually


def test_start_status_chat_stop(host: Host, terminal: Terminal) -> None:
    terminal.configure(demo={})
    start = terminal.spawn("start")
    start.expect(pexpect.EOF)
    assert start.wait() == 0
    for slot in ("valkey", "gateway", "demo-0"):
        assert f"{slot} is ready after" in start.before
    found = re.search(r"ew serves at (http://127\.0\.0\.1:\d+)", start.before)
    assert found
    url = found[1]

    status = terminal.run("status")
    assert status.code == 0
    for part in ("supervisor  ready", f"gateway     ready    {url}", "valkey      ready", "AOF on"):
        assert part in status.out
    assert "demo-0      ready        0    0     0.0" in status.out
    assert "mock 1, env .venv, pid" in status.out
    assert max(map(len, status.out.splitlines())) <= 80

    chat = terminal.run("chat", "demo", "--max-tokens", "5", stdin="hi\n")
    assert (chat.code, chat.out) == (0, "0 1 2 3 4 \n"), chat
    assert json.loads(terminal.run("keys", "list", "--json").out or "[]") == []

    again = terminal.run("start")
    assert again.code == 0
    assert "demo-0 runs already" in again.err
    assert "gateway runs already" in again.err

    stop = terminal.run("stop")
    assert stop.code == 0
    assert "gateway has stopped" in stop.err
    assert host.processes() == []
    assert list(run_dir().iterdir()) == []
    assert "nothing runs" in terminal.run("status").out
    assert list(run_dir().iterdir()) == [], "to look starts no supervisor"
    assert terminal.run("stop").code == 0


def test_a_start_shows_the_stages_with_their_time(host: Host, terminal: Terminal) -> None:
    terminal.configure(slow={"engine_args": {"load_s": 6}})
    start = terminal.spawn("start")
    start.expect(r"slow-0: loading \ds")
    start.expect(r"slow-0 is ready after \d+s")
    start.expect(pexpect.EOF)
    assert start.wait() == 0


def test_a_failed_start_shows_the_last_lines_and_a_hint_and_leaves_the_rest(
    host: Host, terminal: Terminal
) -> None:
    terminal.configure(good={}, bad={"engine_args": {"allocate_mib": "No module named x"}})
    start = terminal.run("start")
    assert start.code == 1
    assert "bad-0 | ValueError: " in start.err
    assert "error: bad-0 exited with code 1\n" in start.err
    assert "hint: the environment is incomplete" in start.err
    assert "log: " in start.err
    assert start.err.count("error:") == 1
    status = json.loads(terminal.run("status", "--json").out)
    assert {model["id"]: model["state"] for model in status["models"]} == {
        "good": "ready",
        "bad": "failed",
    }
    assert "bad-0 exited with code 1" in terminal.run("status").out


def test_ctrl_c_during_a_start_leaves_it_going_on(host: Host, terminal: Terminal) -> None:
    terminal.configure(slow={"engine_args": {"load_s": 8}})
    start = terminal.spawn("start")
    start.expect("slow-0: loading")
    start.sendintr()
    start.expect("it goes on in the background")
    start.expect(pexpect.EOF)
    assert start.wait() == 130
    eventually(lambda: "slow-0      ready" in terminal.run("status").out)


def test_a_foreground_start_ends_with_ctrl_c_and_leaves_nothing(
    host: Host, terminal: Terminal
) -> None:
    terminal.configure(demo={})
    start = terminal.spawn("start", "--foreground")
    start.expect("Ctrl-C stops everything")
    assert "ew runs in the background already" in terminal.run("start", "--foreground").err
    start.sendintr()
    start.expect("valkey has stopped")
    start.expect(pexpect.EOF)
    assert start.wait() == 0
    assert host.processes() == []
    assert list(run_dir().iterdir()) == []


def test_a_foreground_start_shows_restarts_and_hears_sigterm(
    host: Host, terminal: Terminal
) -> None:
    terminal.configure(demo={})
    start = terminal.spawn("start", "--foreground")
    start.expect("Ctrl-C stops everything")
    os.kill(host.find_worker("demo-0").pid or 0, signal.SIGKILL)
    start.expect("demo-0 was killed by SIGKILL; again")
    start.expect("demo-0 is ready after")
    start.kill(signal.SIGTERM)
    start.expect(pexpect.EOF)
    assert start.wait() == 0
    assert host.processes() == []


def test_when_the_terminal_of_a_foreground_start_dies_everything_stops(
    host: Host, terminal: Terminal
) -> None:
    terminal.configure(demo={})
    start = terminal.spawn("start", "--foreground")
    start.expect("Ctrl-C stops everything")
    start.kill(signal.SIGKILL)
    start.wait()
    eventually(lambda: not is_running())
    assert host.processes() == []


def test_stop_waits_for_open_answers_and_ctrl_c_ends_the_wait(
    host: Host, terminal: Terminal
) -> None:
    terminal.configure(demo={"engine_args": {"tokens_per_s": 1, "default_tokens": 1000}})
    terminal.run("start")
    key = terminal.run("keys", "add").out.strip()
    url = host.status().gateway.url
    body = {"modelId": "demo", "prompt": "hi"}
    with httpx.stream(
        "POST", f"{url}/api/v1/inference/stream", json=body, headers={"X-API-Key": key}
    ) as answer:
        next(answer.iter_lines())
        stop = terminal.spawn("stop")
        stop.expect("gateway: draining")
        stop.sendintr()
        stop.expect("stopping at once")
        stop.expect(pexpect.EOF)
        assert stop.wait() == 0
    assert host.processes() == []


def test_stop_of_one_model_by_name(host: Host, terminal: Terminal) -> None:
    terminal.configure(one={}, two={})
    terminal.run("start")
    assert "one-0 has stopped" in terminal.run("stop", "one").err
    wrong = terminal.run("stop", "three")
    assert wrong.code == 1
    assert "error: no model `three`\nhint: there are: `one`, `two`\n" in wrong.err
    assert host.find_worker("two-0").state.value == "ready"
    again = terminal.run("stop", "one", "one", "two")
    assert again.code == 0
    assert again.err.count("one-0 was not running") == 1
    assert "two-0 has stopped" in again.err
    assert "did you mean `one`?" in terminal.run("stop", "onee").err
    assert terminal.run("stop").code == 0
    assert "one was not running\n" in terminal.run("stop", "one").err
    assert "nothing runs\n" in terminal.run("stop").err


def test_who_changes_nothing_is_told_so(host: Host, terminal: Terminal) -> None:
    terminal.configure(demo={"load": "on-demand"}, other={})
    assert terminal.run("start", "demo").code == 0
    said = [
        terminal.run(*command.split()).err.splitlines()[-1]
        for command in (
            "unload demo",
            "pin demo --off",
            "pin demo",
            "pin demo",
            "load demo",
            "load demo",
            "unload demo",
            "stop other",
            "stop demo",
            "stop demo",
            "load dmeo",
        )
    ]
    assert said[:4] == [
        "demo-0 is not loaded",
        "demo is not pinned",
        "demo is pinned",
        "demo is pinned already",
    ]
    assert "demo-0 is ready after" in said[4]
    assert said[5:] == [
        "demo-0 is loaded already",
        "demo has given its memory back until it is asked for",
        "other was not running",
        "demo-0 was not loaded, and will not be on demand any more",
        "demo-0 was not running",
        "hint: did you mean `demo`?",
    ]


def test_a_model_is_called_the_same_by_status_and_by_the_gateway(
    host: Host, terminal: Terminal
) -> None:
    terminal.configure(
        parked={"load": "on-demand"},
        bad={"engine_args": {"allocate_mib": "No module named x"}},
        good={},
    )
    terminal.run("start")
    key = terminal.run("keys", "add").out.strip()

    def told() -> tuple[dict[str, object], dict[str, object]]:
        status = json.loads(terminal.run("status", "--json").out)
        url = f"{status['gateway']['url']}/api/v1/models"
        listed = httpx.get(url, headers={"X-API-Key": key}).json()["models"]
        ours = {each["id"]: (each["state"], each["stage"] or None) for each in status["models"]}
        return ours, {each["id"]: (each["state"], each["stage"]) for each in listed}

    eventually(lambda: told()[0] == told()[1])
    assert told()[1] == {
        "parked": ("stopped", "loads on demand"),
        "bad": ("failed", None),
        "good": ("ready", None),
    }


def test_a_taken_port_is_one_line_with_its_owner(host: Host, terminal: Terminal) -> None:
    terminal.configure(demo={})
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        start = terminal.run("start", "--port", str(port))
    assert start.code == 1
    assert f"error: port {port} is in use by " in start.err
    assert f"(pid {os.getpid()})" in start.err
    assert host.processes() == []


def test_a_gateway_that_others_reach_says_so(host: Host, terminal: Terminal) -> None:
    terminal.configure(demo={})
    everywhere = "0.0.0.0"  # noqa: S104
    admin = {"ADMIN_HOST": everywhere, "ADMIN_PORT": str(free_port())}
    settings = {f"EW_GATEWAY__{name}": value for name, value in admin.items()}
    start = terminal.run("start", EW_GATEWAY__HOST=everywhere, **settings)
    assert start.code == 0
    said = start.err.splitlines()
    assert said[0].startswith(
        "warning: EW_GATEWAY__HOST: `gateway.host` is 0.0.0.0: other machines reach the gateway"
    )
    assert "TLS" in said[0]
    assert said[1].startswith(
        "warning: EW_GATEWAY__ADMIN_HOST: `gateway.admin_host` is 0.0.0.0: other machines read"
    )
    assert "without a key" in said[1]
    served = r"ew serves at http://127\.0\.0\.1:\d+ and on every other address .* \(0\.0\.0\.0\)"
    assert re.fullmatch(served, said[-1])
    terminal.run("stop")
    assert "TLS" not in terminal.run("start").err


def test_status_says_that_the_supervisor_is_gone_and_changes_nothing(
    host: Host, terminal: Terminal
) -> None:
    terminal.configure(demo={})
    terminal.run("start")
    worker = host.find_worker("demo-0")
    gone = host.supervisor_pid()
    host.kill_supervisor()
    status = terminal.run("status")
    assert f"the supervisor (pid {gone}) is gone; `./ew start` takes over" in status.out
    assert "demo-0      ready" in status.out
    assert not is_running()
    assert terminal.run("start").code == 0
    assert host.find_worker("demo-0").pid == worker.pid
    assert host.supervisor_pid() != gone


def test_status_is_right_when_a_worker_died_with_nobody_watching(
    host: Host, terminal: Terminal
) -> None:
    terminal.configure(demo={})
    terminal.run("start")
    pid = host.find_worker("demo-0").pid or 0
    host.kill_supervisor()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not is_alive(pid))
    assert "demo-0      stopped" in terminal.run("status").out


def test_stop_ends_what_a_killed_supervisor_left(host: Host, terminal: Terminal) -> None:
    terminal.configure(demo={})
    terminal.run("start")
    host.kill_supervisor()
    assert terminal.run("stop").code == 0
    assert host.processes() == []
    assert list(run_dir().iterdir()) == []


def test_watch_shows_the_status_again_and_again(host: Host, terminal: Terminal) -> None:
    terminal.configure(demo={})
    terminal.run("start")
    watch = terminal.spawn("status", "--watch")
    watch.expect("demo-0")
    watch.expect("ready")
    host.stop()
    watch.expect("nothing runs")
    watch.sendintr()
    watch.expect(pexpect.EOF)
    assert watch.wait() == 130


def test_logs_are_shown_and_followed(host: Host, terminal: Terminal) -> None:
    terminal.configure(demo={})
    terminal.run("start")
    assert "ready after" in terminal.run("logs", "demo").out
    everything = terminal.run("logs").out
    assert "supervisor | " in everything
    assert "gateway | " in everything
    objects = [
        json.loads(line)
        for line in terminal.run("logs", "--json", "-n", "999").out.split("\n")[:-1]
    ]
    assert {"supervisor", "gateway", "valkey", "demo-0"} <= {each["unit"] for each in objects}
    times = [datetime.fromisoformat(each["time"]) for each in objects if each["time"]]
    assert times == sorted(times)
    assert all(time.tzinfo for time in times)
    both = terminal.run("logs", "demo", "gateway", "--since", "1h").out
    assert {line.split(" | ")[0] for line in both.splitlines()} == {"demo-0", "gateway"}
    assert terminal.run("logs", "--since", "1s", "-n", "0").out == ""
    follow = terminal.spawn("logs", "supervisor", "-f")
    follow.expect("demo-0 starts as")
    host.stop("demo")
    follow.expect("demo-0 has stopped")
    follow.sendintr()
    follow.expect(pexpect.EOF)
    assert follow.wait() == 130


def test_a_conversation_in_a_terminal(host: Host, terminal: Terminal) -> None:
    terminal.configure(demo={"engine_args": {"default_tokens": 3}})
    terminal.run("start")
    chat = terminal.spawn("chat", "demo")
    for _ in range(2):
        chat.expect("> ")
        chat.sendline("hello")
        chat.expect("0 1 2 \r\n")
    chat.expect("> ")
    chat.sendeof()
    chat.expect(pexpect.EOF)
    assert chat.wait() == 0


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_quickstart_ends_with_a_line_to_paste_and_the_second_time_changes_nothing(
    host: Host, terminal: Terminal
) -> None:
    terminal.configure(demo={"engine_args": {"default_tokens": 3}})
    first = terminal.run("quickstart")
    assert first.code == 0, first
    assert first.out.startswith("0 1 2 \n")
    assert "demo-0      ready" in first.out
    line = next(line for line in first.out.splitlines() if line.startswith("curl "))
    pasted = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
    assert "event: done" in pasted.stdout
    worker = host.find_worker("demo-0")

    second = terminal.run("quickstart")
    assert second.code == 0
    assert line in second.out
    assert host.find_worker("demo-0").pid == worker.pid
    assert len(json.loads(terminal.run("keys", "list", "--json").out)) == 1
    assert (terminal.state / "quickstart.key").stat().st_mode & 0o777 == 0o600
