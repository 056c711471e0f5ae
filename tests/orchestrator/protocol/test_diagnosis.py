"""Diagnoses from the last lines of a log."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from contract.endings import ENGINE_HUNG
from orchestrator.protocol import diagnosis as module
from orchestrator.protocol.diagnosis import (
    count_memory_kills,
    describe_exit,
    diagnose,
    is_gpu_at_fault,
    read_tail,
)
from orchestrator.system.valkey import find_server

KNOWN = [
    (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB",
        "max_batch_size",
        False,
    ),
    ("ValueError: No available memory for the cache blocks.", "GPU", False),
    ("ValueError: Free memory on device (1/80 GiB) on startup is less than desired", "GPU", False),
    ("ModuleNotFoundError: No module named 'vllm'", "./ew setup --engine cpu-vllm", True),
    ("OSError: libmpi.so.40: cannot open shared object file", "./ew setup", True),
    ("OSError: x/y is not a local folder and is not a valid model identifier", "model_path", True),
    ("huggingface_hub.errors.RepositoryNotFoundError: 404", "model_path", True),
    ("GatedRepoError: 403 Client Error.", "HF_TOKEN", True),
    ("OSError: We couldn't connect to 'https://huggingface.co'", "network", False),
    ("ValueError: ... Please pass trust_remote_code=True", "trust_remote_code", True),
    ("OSError: [Errno 28] No space left on device", "df -h", False),
    ("[Errno 98] error while attempting to bind: address already in use", "--port", True),
    ("Bad file format reading the append only file", f"{find_server()} --fix", True),
    ("User-specified max_model_len (9) is greater than the derived", "max_model_len", True),
    ("ValueError: Model architectures ['X'] are not supported for now", "a newer one", True),
    ("TypeError: Script.__init__() got an unexpected keyword argument 'x'", "engine_args", True),
]


@pytest.mark.parametrize(("line", "hint", "is_lasting"), KNOWN)
def test_a_known_cause_has_a_hint(line: str, hint: str, is_lasting: bool) -> None:
    diagnosis = diagnose("x-0 exited with code 1", ["before", line], engine="cpu-vllm")
    assert diagnosis.is_lasting == is_lasting
    assert hint in diagnosis.problem.hint


def test_an_unknown_cause_is_tried_again_and_has_no_hint() -> None:
    diagnosis = diagnose("x-0 exited with code 1", ["Segmentation fault"])
    assert (diagnosis.problem.hint, diagnosis.is_lasting) == ("", False)
    assert diagnosis.problem.log_tail == ["Segmentation fault"]


def test_exits_in_words() -> None:
    assert describe_exit(3) == "exited with code 3"
    assert describe_exit(-9) == "was killed by SIGKILL"
    assert describe_exit(None) == "ended"
    assert describe_exit(ENGINE_HUNG) == "was ended because its engine stood still"


@pytest.mark.parametrize("number", [signal.SIGRTMIN + 3, signal.SIGRTMAX - 1])
def test_a_signal_without_a_name_is_told_by_its_number(number: int) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    os.kill(child.pid, number)
    assert describe_exit(child.wait(30)) == f"was killed by signal {number}"


def test_a_tail_begins_where_the_start_began(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("of the former start\n")
    start = log.stat().st_size
    log.write_text("of the former start\n" + "".join(f"line {i}\n" for i in range(50)))
    tail = read_tail(log, start)
    assert tail == [f"line {i}" for i in range(30, 50)]
    assert read_tail(log, start, lines=100)[0] == "line 0"
    assert read_tail(tmp_path / "none.log", 0) == []


def test_a_tail_of_bytes_that_are_no_text_is_shown_all_the_same(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_bytes(b"\xff\xfe broken\n")
    assert len(read_tail(log, 0)) == 1


def test_kills_for_memory_are_counted_where_the_kernels_log_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "memory.events").write_text("low 0\noom 3\noom_kill 2\noom_group_kill 0\n")
    assert count_memory_kills(tmp_path) == 2
    assert count_memory_kills(tmp_path / "none") == 0
    assert count_memory_kills() >= 0


@pytest.mark.parametrize(
    ("ago_s", "line", "is_fault"),
    [
        (5, "NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, GPU has fallen off the bus.", True),
        (5, "NVRM: Xid (PCI:0000:65:00): 48, pid=77, An uncorrectable double bit error", True),
        (900, "NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, GPU has fallen off the bus.", False),
        # Faults of a program: an address that is not mapped, an exception.
        (5, "NVRM: Xid (PCI:0000:3b:00): 31, pid=1234, Ch 00000008, MMU Fault", False),
        (5, "NVRM: Xid (PCI:0000:3b:00): 13, pid=1234, Graphics SM Warp Exception", False),
        (5, "Killed process 48 (python)", False),
    ],
)
def test_faults_of_a_gpu_are_told_from_those_of_what_runs_on_it(
    monkeypatch: pytest.MonkeyPatch, ago_s: float, line: str, is_fault: bool
) -> None:
    at_us = int((time.monotonic() - ago_s) * 1e6)
    with _kernel_log(f"6,339,{at_us - 10},-;another line", f"4,340,{at_us},-;{line}") as log:
        monkeypatch.setattr(module.os, "open", lambda *_: log)
        assert is_gpu_at_fault() is is_fault
        monkeypatch.undo()


@contextmanager
def _kernel_log(*records: str) -> Iterator[int]:
    """A descriptor that gives one record for each read, as that of /dev/kmsg does."""
    kernel, log = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for record in records:
        kernel.send(record.encode() + b"\n")
    log.setblocking(False)
    yield os.dup(log.fileno())
    log.close()
    kernel.close()
