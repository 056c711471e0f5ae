"""Tells what a conversion does and how long it takes, and runs the steps that take long in child
processes whose output goes to the log."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, TextIO

from programs.trt_conversion.command import as_called
from programs.trt_conversion.problem import Problem

_LOOK_EVERY_S: Final = 0.2
_SAY_EVERY_S: Final = 10.0
_TAIL_LINES: Final = 20
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
#: Lines of TensorRT-LLM about its own progress.
_LIBRARY_STAGE = re.compile(r"Loading Model:\s*\[\d+/\d+\]\s*(\S.*)")
_OUR_STAGE = re.compile(r"^stage: (.*)")


class _Cause(NamedTuple):
    pattern: str
    hint: str


_CAUSES: Final = (
    _Cause(
        r"CUDA out of memory|OutOfMemory|insufficient GPU memory|cudaMalloc|CUDA_ERROR_OUT_OF",
        "the GPU's memory was not enough: stop what runs on it, lower --max-batch-size or "
        "--max-input-len, spread the model with --tp-size, or quantise it",
    ),
    _Cause(
        r"on the Hub|ConnectionError|OfflineMode|name resolution",
        "calibration data is downloaded unless you give some: --calib-data DIRECTORY",
    ),
    _Cause(
        r"Unsupported model architecture",
        "this release cannot build plans of this model; serve the checkpoint itself: "
        "`model_path` is its directory, with TensorRT-LLM 1.0 or later, or with cuda-vllm",
    ),
    _Cause(
        r"trust_remote_code",
        "the checkpoint brings Python code of its own: if you trust its author, add "
        "--trust-remote-code",
    ),
    _Cause(r"No space left on device", "the disk is full"),
    _Cause(
        r"No module named '?tensorrt_llm'?",
        "this Python has no TensorRT-LLM: `./ew setup --engine cuda-trt` makes an environment "
        "that has, and `./ew convert-trt` uses it",
    ),
    _Cause(r"No module named '?modelopt", "pip install nvidia-modelopt into this environment"),
)


class Stages:
    """Speaks to stderr and to the log."""

    def __init__(self, log: Path, stream: TextIO = sys.stderr) -> None:
        self.log = log
        self._stream = stream
        self._in_place = stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._is_line_open = False
        self._said = time.monotonic()
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("")

    def say(self, text: str) -> None:
        """A line that stays."""
        text = as_called(text)
        self._clear()
        print(text, file=self._stream, flush=True)
        self._write(text)

    def warn(self, text: str) -> None:
        self.say(f"warning: {text}")

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """Announce a step, and tell how long it took."""
        began = time.monotonic()
        self._write(f"=== {title}")
        self._update(f"{title} ...", at_once=True)
        yield
        self.say(f"{title}: {clock(time.monotonic() - began)}")

    def run(self, title: str, step: str, settings: dict[str, Any]) -> dict[str, Any]:
        """Run a step (a module of this package) in a process of its own, and answer what it
        reports. Raises `Problem` if it fails; it has ended in any case."""
        with self.stage(title):
            return self._run(title, step, settings)

    def _run(self, title: str, step: str, settings: dict[str, Any]) -> dict[str, Any]:
        program = Path(__file__).with_name(f"{step}.py")
        with self.log.open("ab") as log:
            begin = log.tell()
            child = subprocess.Popen(
                [sys.executable, str(program), json.dumps(settings)],
                env={**os.environ, "PYTHONPATH": _import_path(), "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        try:
            report = self._follow(child, title, begin)
        finally:
            _end(child)
        if child.returncode != 0:
            raise self._failure(title, child.returncode, begin)
        return report

    def _follow(self, child: subprocess.Popen[str], title: str, begin: int) -> dict[str, Any]:
        began, doing = time.monotonic(), ""
        while child.poll() is None:
            time.sleep(_LOOK_EVERY_S)
            doing = _latest_stage(self._lines(begin)) or doing
            detail = f": {doing}" if doing else ""
            self._update(f"{title}{detail} ({clock(time.monotonic() - began)})")
        answer, _ = child.communicate()
        found: dict[str, Any] = json.loads(answer) if answer.strip() else {}
        return found

    def _failure(self, title: str, code: int, begin: int) -> Problem:
        lines = self._lines(begin)
        for line in lines[-_TAIL_LINES:]:
            self._clear()
            print(f"  {line}", file=self._stream)
        if code == -signal.SIGKILL:
            hint = "it was killed, most likely because the host's memory was not enough"
        else:
            text = "\n".join(lines)
            hint = next((cause.hint for cause in _CAUSES if re.search(cause.pattern, text)), "")
        return Problem(f"{title} failed; the whole log is {self.log}", hint)

    def _lines(self, begin: int) -> list[str]:
        with self.log.open("rb") as log:
            log.seek(begin)
            text = log.read().decode(errors="replace").replace("\r", "\n")
        return [_ANSI.sub("", line) for line in text.splitlines() if line.strip()]

    def _update(self, text: str, *, at_once: bool = False) -> None:
        if self._in_place:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[2K{text[:width]}", end="", file=self._stream, flush=True)
            self._is_line_open = True
        elif at_once or time.monotonic() - self._said > _SAY_EVERY_S:
            self._said = time.monotonic()
            print(text, file=self._stream, flush=True)

    def _clear(self) -> None:
        if self._is_line_open:
            print("\r\x1b[2K", end="", file=self._stream, flush=True)
            self._is_line_open = False

    def _write(self, text: str) -> None:
        with self.log.open("a") as log:
            log.write(f"{text}\n")


def clock(seconds: float) -> str:
    """`0:35`, or `1:02:03`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _latest_stage(lines: list[str]) -> str:
    for line in reversed(lines):
        if found := _LIBRARY_STAGE.search(line) or _OUR_STAGE.search(line):
            return found[1].strip()
    return ""


def _import_path() -> str:
    here = str(Path(__file__).resolve().parents[2])
    return os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))


def _end(child: subprocess.Popen[str]) -> None:
    """The child and all that it has started, ranks included."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
