"""`scripts/bench engine`: servers are started, kept apart and ended. Once with vLLM (slow)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from contract.paths import ROOT
from orchestrator.environments.environment import find_environment
from tests.scripts.bench_program import bench, said
from tests.waiting import eventually

OPTIONS = """
import json, sys
sys.path.insert(0, sys.argv[1])
from vllm_serve import options
print(json.dumps(options(json.loads(sys.argv[2]))))
"""
#: A shell that takes no SIGTERM, with a child; both stand still.
END = """
import json, os, signal, subprocess, sys
sys.path.insert(0, sys.argv[1])
import process
process._LEAVES_WITHIN_S = 0.2
command = ["sh", "-c", "trap '' TERM; sleep 300 & echo $!; wait"]
started = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
child = int(started.stdout.readline())
os.killpg(started.pid, signal.SIGSTOP)
process.end(started)
print(json.dumps([started.pid, child]))
"""
#: Two servers that are processes which only sleep, asked by a load that looks at both.
COMPARE = """
import json, subprocess, sys, time
sys.path.insert(0, sys.argv[1])
import comparison
from load import Load

comparison._SPIN_S = 0
seen, kept = [], []
processes = [subprocess.Popen(["sleep", "300"], start_new_session=True) for _ in range(2)]

def state(process):
    return open(f"/proc/{process.pid}/stat").read().rsplit(")", 1)[1].split()[0]

class Generator:
    def run(self, port, path, body, streams, key):
        deadline = time.monotonic() + 10
        while "T" not in (states := [*map(state, processes)]) and time.monotonic() < deadline:
            time.sleep(0.01)
        seen.append([port, *states])
        good = streams - (port == 2)
        return Load(streams, good, 0, port, 10.0 * len(seen), 20.0, 1.0, 2.0, 0.5)

comparison.LoadGenerator = Generator
servers = [
    comparison.Server(label, port, "m", pids=(("front", each.pid),), group=each.pid)
    for label, port, each in zip(("one", "two"), (1, 2), processes)
]
sys.stdout, stdout = open(sys.argv[2], "w"), sys.stdout
try:
    comparison.compare(servers, [32], 3, 8, lambda results: kept.append(json.dumps(results)))
finally:
    after = [state(each) for each in processes]
    for each in processes:
        each.kill()
print(json.dumps([seen, after, json.loads(kept[-1])]), file=stdout)
"""


def test_each_argument_of_the_engine_is_an_option_of_vllm_serve() -> None:
    arguments = {
        "max_model_len": 512,
        "model": "/models/m",
        "served_model_name": "m",
        "enforce_eager": True,
        "enable_prefix_caching": False,
        "quantization": None,
        "compilation_config": {"level": 0},
        "middleware": ["a", "b"],
    }
    assert said(OPTIONS, json.dumps(arguments)) == [
        "/models/m",
        *("--max-model-len", "512"),
        *("--served-model-name", "m"),
        "--enforce-eager",
        "--no-enable-prefix-caching",
        *("--compilation-config", '{"level": 0}'),
        *("--middleware", "a", "b"),
    ]


def test_all_of_a_server_is_ended_also_where_it_stands_still() -> None:
    for pid in said(END):
        # Where nothing takes care of orphans, one that was killed stays as a zombie.
        eventually(lambda pid=pid: not runs(pid))


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_others_stand_still_while_one_is_asked(tmp_path: Path) -> None:
    seen, after, (level,) = said(COMPARE, str(tmp_path / "table"))
    warm_up, rounds = seen[:2], seen[2:]
    assert [port for port, *_ in warm_up] == [1, 2]
    assert [port for port, *_ in rounds] == [2, 1, 1, 2, 2, 1]
    for port, *states in seen:
        assert states.index("T") != port - 1
        assert states.count("T") == 1
    assert "T" not in after
    table = (tmp_path / "table").read_text()
    assert level["servers"]["one"]["tok/s"] == 32 * 8
    assert level["servers"]["two"]["errors"] == 3
    assert level["servers"]["one"]["TTFT p50 ms"] == 50.0
    assert level["spread %"]["one"]["TTFT p50 ms"] == pytest.approx(80.0)
    assert level["servers"]["one"]["load %"] == 50.0
    assert "32 one / two" in table


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--engine", "mock"], "invalid choice: 'mock' (choose from"),
        (["--streams", "0,8"], "'0' is no number of at least 1"),
        (["--front-ends", "go"], "no front end 'go': python, rust"),
        (["--settings", "dtype"], "it is not JSON"),
        (["--settings", "[]"], "it is no object"),
        ([], "there is no environment of cpu-vllm\nnext: ./ew setup --engine cpu-vllm\n"),
        (["--environment", "nowhere"], "there is no environment of cpu-vllm in nowhere\nnext: "),
    ],
)
def test_an_error_says_what_is_wrong(tmp_path: Path, words: list[str], error: str) -> None:
    done = bench("engine", *words, EW_STATE_DIR=str(tmp_path))
    assert done.returncode
    assert error in done.stderr
    assert "Traceback" not in done.stderr


def an_environment(directory: Path, engine: str) -> str:
    directory.mkdir()
    (directory / "ew-env.json").write_text(json.dumps({"engine": engine, "version": "0.32.0"}))
    return str(directory)


@pytest.mark.parametrize(
    ("engine", "words", "error"),
    [
        ("cuda-vllm", [], "is an environment of cuda-vllm, not of cpu-vllm"),
        ("cpu-vllm", ["--model", "nowhere"], "--model nowhere: there is no model, as it has no"),
        ("cpu-vllm", ["--front-ends", "rust"], "cpu-vllm 0.32.0 has no vllm-rs in its package"),
    ],
)
def test_nothing_is_started_in_vain(
    tmp_path: Path, engine: str, words: list[str], error: str
) -> None:
    place = an_environment(tmp_path / "environment", engine)
    done = bench("engine", "--environment", place, *words)
    assert done.returncode
    assert error in done.stderr
    assert "starting" not in done.stderr


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.timeout(600)
def test_both_servers_are_measured_and_ended(tmp_path: Path) -> None:
    record, running = tmp_path / "record.json", tmp_path / "running"
    running.mkdir()
    done = bench(*quick(record), EW_STATE_DIR=str(of_vllm()), TMPDIR=str(running))
    assert done.returncode == 0, done.stderr
    found = json.loads(record.read_text())["results"]
    assert found["arguments"]["max_num_seqs"] == 4
    assert found["arguments"]["max_model_len"] == 512
    assert [level["streams"] for level in found["levels"]] == [1, 4]
    for level in found["levels"]:
        for server in ("ew", "vllm serve"):
            assert level["servers"][server]["errors"] == 0
            assert level["servers"][server]["tok/s"] > 0
            assert level["servers"][server]["engine"] > 0
    assert "4 ew / vllm serve" in done.stdout
    assert str(ROOT) not in record.read_text()
    assert not list(running.glob("ew-bench-*"))
    assert not started_in(running)


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.timeout(600)
def test_a_ctrl_c_ends_what_was_started(tmp_path: Path) -> None:
    environment = {**os.environ, "EW_STATE_DIR": str(of_vllm()), "TMPDIR": str(tmp_path)}
    command = [ROOT / "scripts/bench", *quick(tmp_path / "record.json")]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("starting vllm serve"):
            break
    eventually(
        lambda: any("vllm.entrypoints.cli.main" in each.cmdline() for each in started_in(tmp_path))
    )
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGINT
    assert not list(tmp_path.glob("ew-bench-*"))
    assert not started_in(tmp_path)


def of_vllm() -> Path:
    """The state directory with vLLM's environment; skips the test if there is none."""
    environment = find_environment("ew-cpu-vllm")
    if environment is None:
        pytest.skip("no cpu-vllm environment: ./ew setup --engine cpu-vllm")
    return environment.path.parents[1]


def quick(record: Path) -> list[str]:
    settings: dict[str, Any] = {"max_model_len": 512}
    words = ["engine", "--streams", "1,4", "--rounds", "1", "--tokens", "8", "--json", str(record)]
    return [*words, "--settings", json.dumps(settings)]


def started_in(directory: Path) -> list[psutil.Process]:
    """All processes with this temporary directory."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR") == str(directory):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found
