"""Tasks over `/api/v1/admin/tasks`: the real commands, run by a real supervisor."""

from __future__ import annotations

import os
import signal
from typing import Any

import httpx

from contract.supervision.tasks import tasks_dir
from orchestrator.config.key_file import KeyFile
from tests.gateway.admin.conftest import ADMIN, AdminHost
from tests.waiting import eventually

SHORT = {"model": "always", "streams": [1, 2], "seconds": 1, "tokens": 8, "prompt_words": 5}
LONG = {**SHORT, "seconds": 120}


def begin(admin: httpx.Client, kind: str, **body: Any) -> str:
    answer = admin.post(f"{ADMIN}/tasks/{kind}", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def task(admin: httpx.Client, task_id: str) -> dict[str, Any]:
    found: dict[str, Any] = admin.get(f"{ADMIN}/tasks/{task_id}").json()
    return found


def ended(admin: httpx.Client, task_id: str) -> dict[str, Any]:
    eventually(lambda: task(admin, task_id)["state"] != "running", 40)
    return task(admin, task_id)


def bench_keys() -> list[str]:
    return [each.id for each in KeyFile().records().values() if each.name == "ew bench"]


def test_a_bench_runs_in_the_background_and_its_result_is_kept(admin: httpx.Client) -> None:
    found = ended(admin, begin(admin, "bench", **SHORT))
    assert found["state"] == "done", found
    assert (found["kind"], found["model"], found["settings"]["streams"]) == (
        "bench",
        "always",
        [1, 2],
    )
    assert [run["streams"] for run in found["result"]["runs"]] == [1, 2]
    assert all(run["tokens_per_s"] > 0 for run in found["result"]["runs"])
    assert found["ended_unix_s"] > found["began_unix_s"]
    listed = admin.get(f"{ADMIN}/tasks", params={"kind": "bench"}).json()["tasks"]
    assert listed[0]["id"] == found["id"]
    assert admin.get(f"{ADMIN}/tasks", params={"kind": "pull"}).json()["tasks"] == []
    assert bench_keys() == []
    assert (tasks_dir() / found["id"]).stat().st_mode & 0o077 == 0


def test_one_bench_runs_at_a_time_and_is_cancelled(admin: httpx.Client) -> None:
    running = begin(admin, "bench", **LONG)
    other = admin.post(f"{ADMIN}/tasks/bench", json=SHORT)
    assert (other.status_code, other.json()["code"]) == (409, "refused")
    assert running in other.json()["message"]
    eventually(bench_keys)
    assert admin.post(f"{ADMIN}/tasks/{running}/cancel").status_code == 204
    assert ended(admin, running)["state"] == "cancelled"
    assert bench_keys() == [], "its key goes with it"
    assert admin.post(f"{ADMIN}/tasks/{running}/cancel").status_code == 409
    assert admin.post(f"{ADMIN}/tasks/bench-0123456789ab/cancel").status_code == 404


def test_an_estimate_says_what_a_model_needs_and_where_it_would_go(admin: httpx.Client) -> None:
    found = ended(admin, begin(admin, "estimate", model="later"))
    assert found["state"] == "done", found
    (model,) = found["result"]["models"]
    assert (model["id"], model["wanted_bytes"]) == ("later", 1000 * 2**20)
    assert model["placed"][0]["bytes_by_gpu"]
    assert {each["uuid"] for each in found["result"]["gpus"]} == {"GPU-a", "GPU-b"}


def test_a_task_that_fails_says_why(admin: httpx.Client) -> None:
    for kind, name in (("estimate", "--help"), ("pull", "nowhere"), ("bench", "nowhere")):
        found = ended(admin, begin(admin, kind, model=name))
        assert found["state"] == "failed", found
        assert name in " ".join(found["log"]), found["log"]
        assert found["last_line"]
    wrong = admin.post(f"{ADMIN}/tasks/bench", json={**SHORT, "seconds": 10_000})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_request")
    assert admin.get(f"{ADMIN}/tasks/../../keys.json").status_code == 404


def test_a_task_of_a_supervisor_that_died_is_lost(
    admin_host: AdminHost, admin: httpx.Client
) -> None:
    running = begin(admin, "bench", **LONG)
    eventually(bench_keys)
    pid = admin_host.supervisor_pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not admin.get(f"{ADMIN}/status").json()["supervisor"]["alive"])
    admin_host.supervise()
    assert ended(admin, running)["state"] == "lost"
    eventually(lambda: admin.post(f"{ADMIN}/tasks/bench", json=SHORT).status_code == 202)
