"""The pieces: each tries one promise and writes down what it saw."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from combinations import PLAIN_NCCL
from estimating import estimate, mock_entry
from installation import ENV, Installation, wait_for
from load import FULL_ANSWER
from models import make_model
from results import GIB, Failure, Piece
from setting import CARD_MIB, MODELS, Setting, version_of
from watch import MIB, Watch, bytes_of, family, look, used_bytes

from contract.config import ModelConfig
from orchestrator.estimate.estimate import Estimate, estimate_model
from orchestrator.estimate.running import Card
from orchestrator.terminal.sizes import show

_NEEDS = re.compile(r"needs ([\d.]+) GiB")
_FREE = re.compile(r"([\d.]+) GiB free of ([\d.]+) GiB")


def model_of(setting: Setting, shape: str, **settings: Any) -> dict[str, Any]:
    """A model's entry in the configuration: vLLM with dummy weights; or the mock engine that
    takes as much memory as vLLM is estimated to take."""
    args = {"load_format": "dummy", **settings.pop("engine_args", {})}
    path = make_model(MODELS, shape)
    real = {"engine": "cuda-vllm", "env": ENV, "model_path": str(path), **settings}
    real["engine_args"] = args
    if not setting.is_mock:
        return real
    need = estimate_of(real, Card("", CARD_MIB * MIB))
    kept: dict[str, Any] = {
        key: settings[key] for key in ("load", "pinned", "replicas", "sleep") if key in settings
    }
    parallel = {"tensor_parallel_size": settings.get("tensor_parallel_size", 1)}
    script = {"allocate_mib": need.wanted_bytes // MIB, "load_s": 0.3, "asleep_mib": 1000}
    return {"engine": "mock", "model_path": "none", "engine_args": script, **kept, **parallel}


def estimate_of(entry: dict[str, Any], card: Card) -> Estimate:
    model = ModelConfig(**entry)
    found = estimate_model(model, "cuda-vllm", card, version_of("vllm"))
    if found is None:
        raise Failure("cuda-vllm takes no GPU memory?")
    return found


def cache_bytes(entry_bytes: int) -> dict[str, Any]:
    return {"kv_cache_memory_bytes": entry_bytes}


def check(setting: Setting, piece: Piece) -> None:
    """Look at this host first, so that the other pieces do not fail for want of something."""
    with setting.installation("check") as ew:
        snapshot = look()
        piece.require("NVML answers", not snapshot.problem, snapshot.problem or None)
        piece.note("driver", snapshot.driver_version)
        for gpu in snapshot.gpus:
            piece.note(f"GPU {gpu.index}", f"{gpu.name}, {gpu.total_mib} MiB, {gpu.used_mib} used")
        for package in ("torch", "vllm", "fastapi", "redis", "nvidia-ml-py"):
            piece.note(package, version_of(package))
        ew.configure({"small": model_of(setting, "0.5B", max_model_len=4096, max_batch_size=16)})
        shown = ew.ew("estimate", "small", may_fail=True)
        piece.note("estimate", (shown.stdout or shown.stderr).strip())
        _check_imports(ew, piece, ["fastapi", "uvicorn", "redis", "msgspec", "typer", "psutil"])
        if not setting.is_mock:
            _check_imports(ew, piece, ["torch", "vllm"])


def share(setting: Setting, piece: Piece) -> None:
    """Two models on one GPU, without a fraction in the configuration, both asked at once."""
    with setting.installation("share") as ew:
        ew.configure(
            {
                "small": model_of(setting, "0.5B", max_model_len=4096, max_batch_size=16),
                "large": model_of(setting, "7B", max_model_len=8192, max_batch_size=32),
            }
        )
        before = used_bytes()
        began = time.monotonic()
        ew.ew("start", timeout_s=320)
        piece.note("both ready after", f"{time.monotonic() - began:.0f} s")
        _check_places(ew, piece, ["small", "large"])
        with ThreadPoolExecutor(16) as pool:
            names = [name for _ in range(8) for name in ("small", "large")]
            answers = [pool.submit(ew.ask, name, **FULL_ANSWER) for name in names]
            texts = [answer.result()["choices"][0]["finish_reason"] for answer in answers]
        piece.check("both answer at once", texts == ["length"] * 16, f"{len(texts)} answers")
        after = look().gpus[0]
        piece.note("used on the GPU", f"{show(before)} before, {show(after.used_mib * MIB)} after")


def _check_places(ew: Installation, piece: Piece, models: list[str]) -> None:
    """Each worker has no more than was reserved for it."""
    reserved = _reserved(ew)
    snapshot = look()
    for model in models:
        for worker in ew.workers(model):
            slot, has = worker["slot"], bytes_of(family(worker["pid"]), snapshot)
            promised = reserved.get(slot, {})
            fits = bool(has) and all(used <= promised.get(uuid, 0) for uuid, used in has.items())
            found = {
                uuid: f"{show(used)} of {show(promised.get(uuid, 0))}" for uuid, used in has.items()
            }
            piece.check(f"{slot} has no more than its reservation", fits, found)


def _reserved(ew: Installation) -> dict[str, dict[str, int]]:
    from orchestrator.gpu.ledger_file import LedgerFile

    held = LedgerFile(ew.state / "ledger.json").read()
    return {each.slot: each.reserved_bytes for each in held}


def evict(setting: Setting, piece: Piece) -> None:
    """A model that does not fit is refused in numbers; then an idle one on demand goes for it."""
    with setting.installation("evict") as ew:
        total = look().gpus[0].total_mib * MIB
        keeper = _sized(setting, "7B", total * 34 // 100)
        filler = _sized(setting, "0.5B", total * 40 // 100)
        third = _sized(setting, "7B", total * 40 // 100)
        ew.configure({"keeper": keeper, "filler": filler, "third": third})
        ew.ew("start", "--model", "keeper", "--model", "filler", timeout_s=280)
        gpu = wait_for(lambda: _measured_gpu(ew), 30, "both are measured")
        # Memory that is promised to the others is theirs, though they have not taken it yet.
        free = (look().gpus[0].free_mib - gpu["promised_mib"]) * MIB
        refused = ew.ew("start", "--model", "third", timeout_s=120, may_fail=True)
        _check_refusal(piece, refused, free, setting)

        ew.ew("stop", "filler", timeout_s=90)
        ew.configure(
            {
                "keeper": keeper,
                "filler": filler | {"load": "on-demand"},
                "third": third | {"load": "on-demand"},
            }
        )
        ew.ew("start", timeout_s=120)
        piece.check("filler is loaded on demand", _answers(ew, "filler"))
        began = time.monotonic()
        piece.check("third is served", _answers(ew, "third"))
        piece.note("third waited", f"{time.monotonic() - began:.0f} s")
        gone = not any(worker["pid"] for worker in ew.workers("filler"))
        piece.check("filler, idle and on demand, has made room", gone)
        piece.check("keeper, which is always loaded, still serves", _answers(ew, "keeper"))


def _sized(setting: Setting, shape: str, size_bytes: int) -> dict[str, Any]:
    """A model whose KV cache makes it as large as that."""
    entry = model_of(setting._replace(is_mock=False), shape, max_model_len=4096, max_batch_size=16)
    card = setting.card()
    need = estimate_of(entry, card)
    cache = size_bytes - need.fixed_bytes
    if setting.is_mock:
        return mock_entry(need, cache)
    entry["engine_args"] |= cache_bytes(cache)
    return entry


def _measured_gpu(ew: Installation) -> dict[str, Any] | None:
    """The first GPU in the status, once all workers on it were measured."""
    gpu = dict(ew.status()["gpus"][0])
    return gpu if all(each["stage"] == "ready" for each in gpu["workers"]) else None


def _check_refusal(
    piece: Piece, refused: subprocess.CompletedProcess[str], free: int, setting: Setting
) -> None:
    text = refused.stderr + refused.stdout
    piece.note("refusal", text.strip())
    piece.check("what does not fit is refused", refused.returncode == 1)
    needs, stated = _NEEDS.search(text), _FREE.search(text)
    piece.check("the refusal says what is needed", needs is not None)
    right = stated is not None and abs(float(stated[1]) * GIB - free) <= 0.5 * GIB
    said = f"NVML, less what is promised: {show(free)}"
    piece.check("the refusal says what is free, as NVML does", right, said)
    named = "keeper" in text and "filler" in text
    piece.check("the refusal names who has the rest", named)


def _answers(ew: Installation, model: str) -> bool:
    return bool(ew.ask(model)["choices"])


def kill(setting: Setting, piece: Piece) -> None:
    """SIGKILL of an engine's parent: its memory is free within 5 s, and it serves again."""
    with setting.installation("kill") as ew:
        before = used_bytes()
        ew.configure({"small": model_of(setting, "0.5B", max_model_len=4096, max_batch_size=16)})
        ew.ew("start", timeout_s=240)
        piece.require("it serves", _answers(ew, "small"))
        (worker,) = ew.workers("small")
        pids = family(worker["pid"])
        has = sum(bytes_of(pids).values())
        piece.note("before the kill", f"{len(pids)} processes with {show(has)}")
        with Watch(every_s=0.02) as watch:
            killed = time.monotonic()
            os.kill(worker["pid"], signal.SIGKILL)
            back = wait_for(
                lambda: watch.first_below(before + 64 * MIB), 30, "memory at its baseline"
            )
        piece.check(
            "memory is at its baseline within 5 s", back - killed <= 5, f"{back - killed:.2f} s"
        )
        left = [pid for pid in pids if Path(f"/proc/{pid}/stat").exists() and not _is_zombie(pid)]
        piece.check("no process of it is left", not left, left or None)
        wait_for(lambda: _serves_again(ew, worker["pid"]), 200, "it serves again", every_s=1)
        piece.check("it serves again", True, f"{time.monotonic() - killed:.0f} s after the kill")


def sleep(setting: Setting, piece: Piece) -> None:
    """A model that sleeps gives its memory back, and wakes sooner than it loads, as it was."""
    with setting.installation("sleep") as ew:
        shape = "0.5B" if setting.is_mock else "7B"
        limits = {"max_model_len": 8192, "max_batch_size": 32, "load": "on-demand", "sleep": True}
        ew.configure({"sleeper": model_of(setting, shape, **limits)})
        ew.ew("start")
        load_s, first = _timed_answer(ew, "sleeper")
        piece.note("first answer, with the load", f"{load_s:.1f} s")
        (worker,) = ew.workers("sleeper")
        wait_for(lambda: bytes_of(family(worker["pid"])), 10, "its memory shows")
        awake = sum(bytes_of(family(worker["pid"])).values())
        ew.ew("unload", "sleeper")
        wait_for(lambda: ew.workers("sleeper")[0]["state"] == "sleeping", 60, "it sleeps")
        kept = sum(bytes_of(family(worker["pid"])).values())
        piece.check("asleep it keeps little", kept < awake / 4, f"{show(kept)} of {show(awake)}")
        wake_s, second = _timed_answer(ew, "sleeper")
        piece.note("first answer, with the waking", f"{wake_s:.1f} s")
        piece.check("it wakes sooner than it loads", wake_s < load_s, f"{load_s / wake_s:.0f} x")
        piece.check("it answers as before", second == first, second)
        (again,) = ew.workers("sleeper")
        piece.check("it is the same process", again["pid"] == worker["pid"])


def _timed_answer(ew: Installation, model: str) -> tuple[float, str]:
    began = time.monotonic()
    answer = ew.ask(model, max_tokens=16, temperature=0, ignore_eos=True)
    return time.monotonic() - began, str(answer["choices"][0]["text"])


def _serves_again(ew: Installation, former: int) -> bool:
    workers = ew.workers("small")
    if not workers or workers[0]["pid"] in (None, former) or workers[0]["state"] != "ready":
        return False
    return _answers(ew, "small")


def two(setting: Setting, piece: Piece) -> None:
    """On two GPUs: one model over both, and two workers of another on one each."""
    with setting.installation("two", gpus=2) as ew:
        gpus = look().gpus
        piece.require("there are two GPUs", len(gpus) >= 2, len(gpus))
        plain = {"enforce_eager": True} | PLAIN_NCCL
        wide = {"max_model_len": 8192, "max_batch_size": 32, "tensor_parallel_size": 2}
        wide |= {"engine_args": plain}
        ew.configure(
            {
                "wide": model_of(setting, "7B", **wide),
                "twice": model_of(
                    setting, "0.5B", max_model_len=4096, max_batch_size=16, replicas=2
                ),
            }
        )
        ew.ew("start", timeout_s=400)
        _check_places(ew, piece, ["wide", "twice"])
        (spread,) = (bytes_of(family(worker["pid"])) for worker in ew.workers("wide"))
        piece.check(
            "the wide model is on both GPUs",
            len(spread) == 2,
            {k: show(v) for k, v in spread.items()},
        )
        places = [tuple(bytes_of(family(worker["pid"]))) for worker in ew.workers("twice")]
        apart = (
            len(places) == 2 and len(set(places)) == 2 and all(len(each) == 1 for each in places)
        )
        piece.check("the workers of the other are on one GPU each", apart, places)
        piece.check("both serve", _answers(ew, "wide") and _answers(ew, "twice"))


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def _check_imports(ew: Installation, piece: Piece, names: list[str]) -> None:
    """Whether ew's own processes will find these."""
    command = [ew.python, "-P", "-c", f"import {', '.join(names)}"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1:] or None
    piece.check(f"ew's processes can import {', '.join(names)}", done.returncode == 0, last)


PIECES: dict[str, Callable[[Setting, Piece], None]] = {
    "check": check,
    "estimate": estimate,
    "share": share,
    "evict": evict,
    "kill": kill,
    "sleep": sleep,
    "two": two,
}
