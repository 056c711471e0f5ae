"""Why a process died: the last lines of its log, and what they are known to mean."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from contract.endings import ENGINE_DIED, ENGINE_HUNG, ENGINE_KILLED, REASON
from contract.paths import as_called, state_dir
from contract.supervision.problem import Problem
from orchestrator.system.redis_trouble import DAMAGED

TAIL_LINES: Final = 20
_TAIL_BYTES: Final = 64 * 1024
_SIGNALS: Final = {each.value: each.name for each in signal.Signals}  # not all have a name
_OWN_SIGNALS: Final = frozenset(
    {
        *(signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL),
        *(signal.SIGSEGV, signal.SIGSYS, signal.SIGTRAP),
    }
)
#: Numbers of NVIDIA's driver that tell of memory, buses, links and firmware; others (13, 31, 43,
#: 45) come from what a program has a GPU do (https://docs.nvidia.com/deploy/xid-errors).
_GPU_FAULT: Final = re.compile(
    rb"NVRM: Xid \([^)]*\): (?:48|61|62|63|64|74|79|92|94|95|119|120|140|143),"
)
#: An engine ends within so long of a fault of its GPU.
_JUST_NOW_S: Final = 60.0


class _Cause(NamedTuple):
    pattern: str
    hint: str
    #: The same start would end the same way: do not try again.
    is_lasting: bool = True


_CAUSES: Final = (
    _Cause(
        r"CUDA out of memory|OutOfMemoryError|No available memory for the cache blocks"
        r"|Free memory on device .{0,80}less than desired",
        "the GPU has too little free memory: `./ew status` shows its use; lower `max_model_len`, "
        "`max_batch_size` or `gpu_memory_utilization`",
        is_lasting=False,
    ),
    _Cause(
        r"No space left on device",
        "the disk is full: free some space (`df -h`)",
        is_lasting=False,
    ),
    _Cause(
        r"couldn't connect to 'https?://|ConnectionError|Temporary failure in name resolution"
        r"|LocalEntryNotFoundError",
        "the model has to be downloaded and the network failed; a local directory as "
        "`model_path` needs none",
        is_lasting=False,
    ),
    _Cause(
        r"GatedRepoError|gated repo|Access to model .{0,200} is restricted",
        "the model's owner wants you to agree to its terms on Hugging Face; then set HF_TOKEN",
    ),
    _Cause(
        r"trust_remote_code",
        "the checkpoint brings Python code of its own: if you trust its author, set "
        "`trust_remote_code` of the model",
    ),
    _Cause(
        r"RepositoryNotFoundError|is not a local folder and is not a valid model identifier"
        r"|not a valid repository|Repo id must|[Nn]o such file or directory: .{0,200}config\.json"
        r"|model path .{0,200}(not exist|not found)|[Cc]an't load the configuration of"
        r"|Invalid repository ID or local directory",
        "check `model_path`: it is neither a local model directory nor a Hugging Face repository",
    ),
    _Cause(
        r"User-specified max_model_len .{0,80}greater than the derived",
        "the model has a shorter context: lower `max_model_len`, or `max_input_len` and "
        "`max_output_len`",
    ),
    _Cause(
        r"unexpected keyword argument|unrecognized arguments|engine has no argument"
        r"|Extra inputs are not permitted",
        "the engine does not know one of the model's `engine_args`: `./ew config check` names it",
    ),
    _Cause(
        r"[Aa]rchitectures? .{0,200}not supported|does not recognize this architecture"
        r"|Unsupported model architecture",
        "this release of the engine does not know such a model: `./ew setup --engine {engine}` "
        "with a newer one, or another engine",
    ),
    _Cause(
        r"driver version is insufficient|no kernel image is available|libcuda\.so",
        "the NVIDIA driver does not fit this engine: `./ew doctor` compares them",
    ),
    _Cause(
        r"No module named|cannot open shared object file",
        "the environment is incomplete: `./ew setup --engine {engine}` repairs it",
    ),
    _Cause(
        r"[Aa]ddress already in use",
        "another program has that port: `./ew start --port PORT` takes another",
    ),
    _Cause(
        r"Bad file format reading the append only file",
        DAMAGED,
    ),
    _Cause(
        r"Can't handle RDB format version",
        "the queue's data was written by a newer server: move {valkey} away, or use that one",
    ),
)


class Diagnosis(NamedTuple):
    """Why a process died. `out_of_memory`: the kernel ended it, or a process of it, because the
    host's memory was exhausted."""

    problem: Problem
    is_lasting: bool
    out_of_memory: bool = False


def diagnose(what: str, tail: list[str], *, engine: str = "ENGINE") -> Diagnosis:
    """Return what a death means, from what happened and the last lines of the log."""
    cause = _known("\n".join(tail))
    if cause is None:
        return Diagnosis(Problem(what, "", tail), False)
    return Diagnosis(Problem(what, _hint(cause, engine), tail), cause.is_lasting)


def diagnose_unfit(slot: str, tail: list[str], *, engine: str) -> Diagnosis:
    """Return the death of a worker that ended with `CANNOT_SERVE`: it has said why, in one line."""
    said = next((line.partition(REASON)[2] for line in reversed(tail) if REASON in line), None)
    if said is None:
        return Diagnosis(Problem(f"{slot} {REASON}its log says why", "", tail), True)
    cause = _known(said)
    hint = _hint(cause, engine) if cause else ""
    return Diagnosis(Problem(f"{slot} {REASON}{said}", hint), True)


def _known(text: str) -> _Cause | None:
    return next((cause for cause in _CAUSES if re.search(cause.pattern, text)), None)


def _hint(cause: _Cause, engine: str) -> str:
    # Slow to import, and seldom needed.
    from orchestrator.system.valkey import server_name

    places = {"valkey": state_dir() / "valkey", "server": server_name()}
    return as_called(cause.hint.format(engine=engine, **places))


_WORDS: Final = {
    ENGINE_KILLED: "was left by its engine, a process of which was killed by SIGKILL",
    ENGINE_DIED: "was left by its engine, which has died",
    ENGINE_HUNG: "was ended because its engine stood still",
}


def describe_exit(exit_code: int | None) -> str:
    """Return how a process ended, in words."""
    if exit_code is None:
        return "ended"
    if exit_code in _WORDS:
        return _WORDS[exit_code]
    if exit_code >= 0:
        return f"exited with code {exit_code}"
    return f"was killed by {_SIGNALS.get(-exit_code, f'signal {-exit_code}')}"


def read_tail(path: Path, start: int, lines: int = TAIL_LINES) -> list[str]:
    """Return the last lines of a log from byte `start` on; none if it cannot be read."""
    try:
        with path.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            # A log that was rotated since has become shorter: all of it is new.
            start = start if start <= end else 0
            log.seek(max(start, end - _TAIL_BYTES))
            text = log.read().decode(errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-lines:]


def is_own_signal(number: int) -> bool:
    """Return whether a process gets this signal for what it does itself."""
    return number in _OWN_SIGNALS


def was_killed_for_memory(pid: int) -> bool:
    """Return whether the kernel's log says that its out-of-memory killer ended this process.
    False also where we may not read that log."""
    return _any_record(re.compile(rf"Killed process {pid} \(".encode()))


def is_gpu_at_fault() -> bool:
    """Return whether the kernel's log has told of a fault of a GPU, not of what runs on it, just
    now. False also where we may not read that log."""
    return _any_record(_GPU_FAULT, time.monotonic() - _JUST_NOW_S)


def count_memory_kills(cgroup: Path | None = None) -> int:
    """Return how many processes of our control group (a container's, or a service's) the kernel
    has ended because their memory was exhausted: known also where its log may not be read."""
    try:
        found = cgroup or _own_cgroup()
        events = (found / "memory.events").read_text()
    except (OSError, ValueError):
        return 0
    match = re.search(r"^oom_kill (\d+)$", events, re.MULTILINE)
    return int(match[1]) if match else 0


def _own_cgroup() -> Path:
    """Raises `ValueError` where there is no version 2 of control groups, `OSError`."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        if line.startswith("0::/"):
            return Path("/sys/fs/cgroup") / line.removeprefix("0::/")
    raise ValueError("no control group of version 2")


def _any_record(pattern: re.Pattern[bytes], since_s: float = 0.0) -> bool:
    """Return whether the kernel's log has such a line, of no earlier than `since_s` (monotonic)."""
    try:
        log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return any(pattern.search(line) for at, line in kernel_records(log) if at >= since_s)
    finally:
        os.close(log)


def kernel_records(log: int) -> Iterator[tuple[float, bytes]]:
    """Yield when (monotonic seconds) and what the kernel said, from a descriptor of /dev/kmsg
    (https://www.kernel.org/doc/Documentation/ABI/testing/dev-kmsg)."""
    while True:
        try:
            record = os.read(log, 8192)
        except BrokenPipeError:
            # The ring overwrote what came next; the descriptor has moved on.
            continue
        except OSError:
            return
        head, _, line = record.partition(b";")
        yield int(head.split(b",")[2]) / 1e6, line
