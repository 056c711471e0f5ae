"""The status on a terminal of 80 columns."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from contract.messages import State
from contract.supervision.problem import Problem
from contract.supervision.status import (
    ForeignProcess,
    GatewayStatus,
    GpuStatus,
    GpuWorker,
    HostStatus,
    ModelStatus,
    RedisStatus,
    RunStatus,
    SupervisorStatus,
    WorkerStatus,
)
from orchestrator.cli.status_screen.text import StatusText

NOW = 1_000_000.0


def text_of(status: RunStatus) -> str:
    return "\n".join(StatusText(io.StringIO()).lines(status, NOW))


def worker(**fields: object) -> WorkerStatus:
    known = {
        "slot": "llama-8b-0",
        "name": "llama-8b-0-abc",
        "state": State.READY,
        "since_unix_s": NOW - 7500,
        "engine": "cuda-vllm",
        "env": "ew-cuda-vllm",
    }
    return WorkerStatus(**{**known, **fields})


def model(*workers: WorkerStatus, waiting: int | None = 17) -> ModelStatus:
    return ModelStatus("llama-8b", State.READY, waiting, 3, 1234.5, list(workers))


def status(**fields: object) -> RunStatus:
    supervisor = SupervisorStatus(pid=4, since_unix_s=NOW - 90, start_ticks=1)
    return RunStatus(NOW - 0.5, supervisor=supervisor, **fields)


def test_all_of_it_fits_in_80_columns() -> None:
    busy = worker(
        version="0.32.0",
        pid=4194304,
        running=256,
        tokens_per_s=71234.5,
        rss_mib=123456,
        gpu_mib=143771,
        restarts=12,
    )
    full = status(
        gateway=GatewayStatus(
            State.READY, "http://127.0.0.1:65535", NOW - 100_000, pid=4194304, open_streams=1024
        ),
        redis=RedisStatus(
            State.READY,
            True,
            NOW - 100_000,
            "Valkey",
            "9.1.2",
            pid=4194304,
            used_mib=1234.5,
            operations_per_s=54321,
            append_only_file=True,
        ),
        models=[model(busy)],
        gpus=[
            GpuStatus(
                index=0,
                uuid="GPU-1",
                name="NVIDIA H200 NVL 141GB HBM3e",
                total_mib=143771,
                used_mib=120000,
                free_mib=23771,
                utilization_percent=98,
                temperature_c=71,
                workers=(GpuWorker("llama-8b-0", "ready", 130000, 119000),),
                foreign=(ForeignProcess(99, "bob", "python " + "x" * 99, 512),),
            )
        ],
    )
    text = text_of(full)
    assert max(map(len, text.splitlines())) <= 80
    for part in ("71234.5", "120.6 GiB", "2h 5m", "12 restarts", "71°C", "98%", "54321 ops/s"):
        assert part in text


def test_a_model_that_failed_says_why_and_what_to_do() -> None:
    problem = Problem("llama-8b-0 exited with code 1", "read `model_path`", ["..."])
    text = text_of(status(models=[model(worker(state=State.FAILED, problem=problem))]))
    assert "  llama-8b-0 exited with code 1\n  hint: read `model_path`" in text


def test_a_worker_says_what_is_not_as_usual() -> None:
    text = text_of(status(models=[model(worker(remark="tokens take vLLM's own way"))]))
    assert "tokens take vLLM's own way" in text
    waits = {"stage": "waiting for its server", "remark": "http://up:1 does not answer"}
    text = text_of(status(models=[model(worker(state=State.STARTING, **waits))]))
    assert "waiting for its server" in text
    assert "http://up:1 does not answer" in text


def test_what_recovered_does_not_complain_any_more() -> None:
    text = text_of(status(models=[model(worker(problem=Problem("it died"), restarts=1))]))
    assert "\n  it died" not in text
    assert "1 restart (the last: it died)" in text


def test_what_is_not_known_is_a_dash() -> None:
    text = text_of(status(models=[model(worker(), waiting=None)]))
    assert text.splitlines()[-2].split() == ["llama-8b-0", "ready", "-", "0", "0.0", "-", "-"]


def test_old_figures_are_called_old() -> None:
    supervisor = SupervisorStatus(pid=4, since_unix_s=NOW - 90, start_ticks=1)
    silent = RunStatus(NOW - 30, supervisor=supervisor)
    assert "has not written for 30s: is it stuck?" in text_of(silent)


def test_what_began_later_than_now_has_lasted_for_no_time() -> None:
    supervisor = SupervisorStatus(pid=4, since_unix_s=NOW + 3600, start_ticks=1)
    assert "up 0s" in text_of(RunStatus(NOW, supervisor=supervisor))


@pytest.mark.parametrize(
    ("blocks", "files"), [(3, 100), (10_000, 0)], ids=["no room", "no more files"]
)
def test_a_full_disk_is_why_the_supervisor_does_not_write(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, blocks: int, files: int
) -> None:
    monkeypatch.setenv("EW_STATE_DIR", str(tmp_path))
    disk = os.statvfs(tmp_path)
    full = (4096, 4096, 100_000, blocks, blocks, 1000, files, files, *disk[8:])
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(full))
    supervisor = SupervisorStatus(pid=4, since_unix_s=NOW - 90, start_ticks=1)
    text = text_of(RunStatus(NOW - 30, supervisor=supervisor))
    assert "it has not written for 30s: the disk is full" in text
    assert str(tmp_path) in text


def test_redis_that_does_not_answer_says_so() -> None:
    silent = RedisStatus(State.FAILED, False, NOW, stage="Connection refused")
    assert "redis       failed   Connection refused" in text_of(status(redis=silent))


class Terminal(io.StringIO):
    """A stream that takes colours."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("state", State)
def test_every_state_has_its_colour(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    everything = status(
        gateway=GatewayStatus(state, "http://127.0.0.1:8080", NOW - 60),
        redis=RedisStatus(state, True, NOW - 60),
        models=[ModelStatus("m", state, 0, 0, 0.0, [worker(state=state)])],
    )
    text = "\n".join(StatusText(Terminal()).lines(everything, NOW))
    coloured = [line for line in text.splitlines() if f"m{state.value}" in line]
    # The supervisor's own state is always ready.
    assert len(coloured) == 3 + (state is State.READY)


def test_other_hosts_are_a_table_of_their_own() -> None:
    other = HostStatus(
        name="gpu-2",
        gateways=2,
        models={"llama": State.READY, "coder": State.STOPPED},
        gpus=2,
        gpu_used_mib=1024,
        gpu_total_mib=286_000,
    )
    text = text_of(status(others=[other, HostStatus(name="front-of-all-the-others.example")]))
    lines = text.splitlines()
    assert all(len(line) <= 80 for line in lines)
    row = next(line.split() for line in lines if line.startswith("gpu-2"))
    assert row == ["gpu-2", "2", "2", "1", "2", "1.0", "GiB", "279.3", "GiB"]
    assert "  llama ready, coder stopped" in lines
    assert any(line.startswith("front-of-all") and line.endswith("-") for line in lines)


def test_a_host_that_shares_its_name_says_so() -> None:
    assert "name one of them" in text_of(status(keys_problem="name one of them on all hosts"))
    assert "calls itself `a`" in text_of(status(host_problem="another ew calls itself `a`, too"))
