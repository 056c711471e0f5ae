"""`./ew status --watch` on a real terminal, whose screen pyte keeps as a terminal would."""

from __future__ import annotations

import io
import os
import signal
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pexpect
import psutil
import pyte
import pytest
from wcwidth import wcswidth

from contract.messages import State
from contract.supervision.problem import Problem
from contract.supervision.status import (
    ConfigStatus,
    ForeignProcess,
    GatewayStatus,
    GpuStatus,
    ModelStatus,
    RedisStatus,
    RunStatus,
    SupervisorStatus,
    WorkerStatus,
)
from orchestrator.cli.status_screen.text import StatusText
from orchestrator.cli.status_screen.watch import Layout, Window
from orchestrator.system.version import version
from tests.orchestrator.terminal import COMMAND, Terminal

LONG = "organisation-with-a-long-name/Model-Name-That-Never-Ends-70B-Instruct-FP8"


class Screen:
    """A user before a terminal: the screen, and keys to press."""

    def __init__(self, terminal: Terminal, *, rows: int = 24, columns: int = 80) -> None:
        self.emulator = pyte.HistoryScreen(columns, rows)
        self.stream = pyte.Stream(self.emulator)
        self.bytes = ""
        environment = {**terminal.environment, "TERM": "xterm-256color"}
        del environment["NO_COLOR"]
        self.child = pexpect.spawn(
            COMMAND[0],
            [*COMMAND[1:], "status", "--watch"],
            env=environment,
            cwd=str(terminal.config.parent),
            encoding="utf-8",
            dimensions=(rows, columns),
        )
        self.mode = self.modes()

    def modes(self) -> list[object]:
        return termios.tcgetattr(self.child.child_fd)

    @property
    def lines(self) -> list[str]:
        return self.emulator.display

    def when(self, condition: Callable[[Screen], bool]) -> Screen:
        """Once this is to be seen; fails the test if it never is."""
        deadline = time.monotonic() + 30
        while not condition(self):
            assert time.monotonic() < deadline, "\n".join(self.lines)
            self.read()
        return self

    def read(self) -> None:
        try:
            text = self.child.read_nonblocking(65536, timeout=0.2)
        except pexpect.TIMEOUT:
            return
        except pexpect.EOF:
            assert not self.child.isalive(), "closed"
            return
        self.bytes += text
        self.stream.feed(text)

    def shows(self, text: str) -> Screen:
        return self.when(lambda screen: any(text in line for line in screen.lines))

    def press(self, keys: str) -> Screen:
        self.child.send(keys)
        return self

    def resize(self, rows: int, columns: int) -> None:
        self.child.setwinsize(rows, columns)
        self.emulator.resize(rows, columns)

    def ends(self) -> int:
        """Return the exit code, and sees that the terminal is as it was."""
        self.when(lambda screen: not screen.child.isalive())
        self.read()
        assert self.bytes.rstrip().endswith(("\x1b[?1049l\x1b[?25h", "\x1b[?25h\x1b[?1049l"))
        assert self.modes() == self.mode
        status = self.child.exitstatus
        assert status is not None
        return status


def busy(models: int = 15, gpus: int = 8) -> RunStatus:
    """Return a host that has much to show; its supervisor is this process."""
    now = time.time()
    me = psutil.Process()
    ticks = int(Path(f"/proc/{me.pid}/stat").read_text().rpartition(")")[2].split()[19])
    states = list(State)
    return RunStatus(
        now,
        supervisor=SupervisorStatus(me.pid, now - 90, ticks, version=version()),
        gateway=GatewayStatus(
            State.READY,
            "http://a-host-with-a-rather-long-name.in-a-domain.of-somebody.example:65535",
            now - 100_000,
            pid=4194304,
            processes=[1, 2, 3],
            open_streams=1024,
        ),
        redis=RedisStatus(
            State.READY,
            True,
            now,
            server="Valkey",
            version="9.1.2",
            pid=4194304,
            used_mib=1234.5,
            operations_per_s=54321,
            append_only_file=True,
        ),
        models=[_model(index, states[index % len(states)], now) for index in range(models)],
        gpus=[_gpu(index) for index in range(gpus)],
        config=ConfigStatus(waiting=[f"models.{LONG}-{index}.replicas" for index in range(9)]),
        gpu_problem="the driver does not answer, which it should within a few seconds at most",
    )


def _model(index: int, state: State, now: float) -> ModelStatus:
    problem = Problem(
        f"{LONG}-{index}-0 exited with code 1: /a/very/long/path/{'x' * 90} is not there",
        "look at what the engine says in its log, and give it a path that does exist there",
    )
    worker = WorkerStatus(
        f"{LONG}-{index}-0",
        "w",
        state,
        now - 250_000,
        "cuda-vllm",
        "ew-cuda-vllm-with-a-name-of-its-own",
        stage="waiting: `another-model-of-some-length`, `yet-another-model` makes room",
        version="0.32.0",
        pid=4194304,
        running=256,
        tokens_per_s=71234.5 + index,
        rss_mib=123456,
        gpus=[0, 1, 2, 3, 4, 5, 6, 7],
        gpu_mib=143771,
        gpu_reserved_mib=143771,
        restarts=12,
        problem=problem,
    )
    return ModelStatus(
        f"{LONG}-{index}",
        state,
        10_000 + index,
        256,
        worker.tokens_per_s,
        [worker],
        first_token_p50_s=0.1,
        first_token_p99_s=3.0,
    )


def _gpu(index: int) -> GpuStatus:
    return GpuStatus(
        index,
        f"GPU-{index}",
        "NVIDIA H200 NVL 141GB HBM3e",
        143771,
        120000,
        23771,
        utilization_percent=100,
        temperature_c=71,
        foreign=(ForeignProcess(4194304, "bob", "\x1b]0;mine\x07 日本語" + "x" * 99, 512),),
    )


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path)
    terminal.configure()
    terminal.state.mkdir(mode=0o700)
    yield terminal


def write(terminal: Terminal, status: RunStatus) -> None:
    scratch = terminal.state / "new"
    scratch.write_bytes(msgspec.json.encode(status))
    scratch.replace(terminal.state / "status.json")


@pytest.fixture
def screen(terminal: Terminal) -> Iterator[Screen]:
    write(terminal, busy())
    screen = Screen(terminal)
    yield screen
    screen.child.close(force=True)


def test_much_fits_a_small_terminal_and_scrolls(screen: Screen) -> None:
    screen.shows("q quit")
    assert screen.lines[0].startswith("supervisor")
    assert screen.lines[-1].startswith("q quit")
    assert any("WORKER " in line for line in screen.lines)
    assert any("-0-0 " in line for line in screen.lines)
    # Nothing was pushed out of the screen, as a line that wraps would.
    assert not screen.emulator.history.top
    screen.press("\x1b[B").shows("  2-")
    screen.press("\x1b[A").shows("  1-")
    screen.press("\x1b[6~").when(lambda seen: not any("-0-0 " in line for line in seen.lines))
    assert any("WORKER " in line for line in screen.lines)
    screen.press("G").shows("which it should within")
    assert any("GPU  " in line for line in screen.lines)
    assert any("7 NVIDIA" in line for line in screen.lines)
    screen.press("g").shows("-0-0 ")
    assert not screen.emulator.history.top
    assert screen.emulator.title == ""
    screen.press("q")
    assert screen.ends() == 0


def test_models_are_sorted(screen: Screen) -> None:
    screen.shows("sort: start")
    for order, first in (
        ("name", "-0-0 "),
        ("state", "failed"),
        ("queue", "-14-0"),
        ("tok/s", "-14-0"),
    ):
        screen.press("s").shows(f"sort: {order}")
        rows = [line for line in screen.lines if "Instruct-FP8-" in line or "-0 " in line]
        assert first in rows[0], order


def test_a_resize_is_seen_at_once(screen: Screen) -> None:
    screen.shows("q quit")
    screen.resize(10, 60)
    screen.when(lambda seen: seen.lines[-1].startswith("q quit"))
    screen.resize(50, 132)
    screen.when(lambda seen: seen.lines[-1].startswith("q quit"))
    screen.press("\x03")
    assert screen.ends() == 130


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_terminal_as_it_was(screen: Screen, number: signal.Signals) -> None:
    screen.shows("q quit")
    os.kill(screen.child.pid, number)
    assert screen.ends() == 128 + number


def test_a_defect_leaves_the_terminal_as_it_was(screen: Screen, terminal: Terminal) -> None:
    screen.shows("q quit")
    path = terminal.state / "status.json"
    path.unlink()
    path.mkdir()
    screen.when(lambda seen: not seen.child.isalive())
    assert screen.modes() == screen.mode
    assert "\x1b[?1049l" in screen.bytes


def test_it_needs_a_terminal(terminal: Terminal) -> None:
    assert "`--watch` needs a terminal" in terminal.run("status", "--watch").err


@pytest.mark.parametrize("columns", [60, 80, 100, 200])
def test_the_plain_status_is_never_wider_than_the_terminal(
    terminal: Terminal, columns: int
) -> None:
    write(terminal, busy())
    child = pexpect.spawn(
        COMMAND[0],
        [*COMMAND[1:], "status"],
        env=terminal.environment,
        cwd=str(terminal.config.parent),
        encoding="utf-8",
        dimensions=(24, columns),
    )
    child.expect(pexpect.EOF)
    emulator = pyte.HistoryScreen(columns, 500, history=500)
    pyte.Stream(emulator).feed(child.before)
    # A line that wraps would be two on the screen.
    assert emulator.cursor.y == child.before.count("\n")


@pytest.mark.parametrize("state", State)
def test_every_state_keeps_to_every_width(state: State) -> None:
    now = time.time()
    full = busy(models=0)
    shown = msgspec.structs.replace(
        full,
        models=[_model(0, state, now)],
        gateway=GatewayStatus(state, "http://" + "x" * 200, now, problem=Problem("x " * 99)),
        redis=RedisStatus(state, True, now, stage="a stage of some words " * 9),
    )
    for width in (20, 40, 60, 80, 132, 250):
        lines = StatusText(io.StringIO(), width).lines(shown, now)
        assert max(map(wcswidth, lines)) <= width
        for height in (2, 5, 24):
            lines = Layout(Window()).lines(shown, now, width, height)
            assert len(lines) == height
            assert max(map(wcswidth, lines)) <= width
