"""Values that earlier versions of ew wrote, as a running one left them in Redis and on the disk:
this version reads them, for both may be there at once. And the other way round: what a later one
adds does no harm.

A release adds its own to `tests/recorded/`; docs/upgrade.md says what is promised.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contract.config import WorkerSpec
from contract.gateway_beat import GatewayBeat
from contract.host_beat import HostBeat
from contract.keys import read_keys
from contract.messages import Delta, Done, Failed, Heartbeat, Started, State
from contract.paths import ROOT, run_dir
from contract.supervision.status import status_path
from contract.wire import decode_frame, decode_job, encode_job
from orchestrator.protocol.life import Goal, Phase
from orchestrator.protocol.status import read_status
from orchestrator.supervisor.reporting.run_file import read_run

RECORDED = sorted((ROOT / "tests" / "recorded").glob("*.json"))


@pytest.fixture(params=RECORDED, ids=lambda path: path.stem)
def recorded(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(request.param.read_text())
    return found


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EW_STATE_DIR", str(tmp_path))
    run_dir().mkdir()
    return tmp_path


def test_frames(recorded: dict[str, Any]) -> None:
    envelopes = [envelope for frame in recorded["frames"] for envelope in decode_frame(_raw(frame))]
    events = [envelope.event for envelope in envelopes]
    assert {type(event) for event in events} >= {Started, Delta, Done, Failed}
    (failed,) = [event for event in events if isinstance(event, Failed)]
    assert failed.message == "scripted at token 2", "not that a part cannot be read"
    job_id = envelopes[0].job_id
    answer = [each.event for each in envelopes if each.job_id == job_id]
    deltas = [event for event in answer if isinstance(event, Delta)]
    assert "".join(delta.text for delta in deltas) == "0 1 2 3 4 "


def test_a_job_that_waits(recorded: dict[str, Any]) -> None:
    job = decode_job(_raw(recorded["job"]))
    assert job.model == "mock"
    assert job.messages is not None
    assert job.messages[-1].content == "[[hang_at=1]] x"
    assert (job.sampling.max_tokens, job.sampling.temperature) == (5, 0.5)
    assert decode_job(encode_job(job)) == job


def test_heartbeats(recorded: dict[str, Any]) -> None:
    beat = msgspec.msgpack.decode(_raw(recorded["worker_beat"]), type=Heartbeat)
    assert (beat.model, beat.state, beat.jobs_total) == ("mock", State.READY, 4)
    gateway = msgspec.msgpack.decode(_raw(recorded["gateway_beat"]), type=GatewayBeat)
    assert gateway.name
    assert gateway.figures.models
    host = msgspec.msgpack.decode(_raw(recorded["host_beat"]), type=HostBeat)
    assert host.host == "vm"


def test_what_a_supervisor_leaves_to_the_next(recorded: dict[str, Any], state: Path) -> None:
    (run_dir() / "processes.json").write_text(json.dumps(recorded["processes.json"]))
    run = read_run()
    assert run is not None
    assert [unit.goal for unit in run.units] == [Goal.RUN] * 3
    assert [unit.phase for unit in run.units] == [Phase.READY] * 3
    assert run.redis_url is None


def test_the_status(recorded: dict[str, Any], state: Path) -> None:
    status_path().write_text(json.dumps(recorded["status.json"]))
    status = read_status()
    assert [model.id for model in status.models] == ["mock"]
    assert status.supervisor is not None
    assert status.supervisor.version == recorded["status.json"]["supervisor"].get("version", "")


def test_keys(recorded: dict[str, Any], state: Path) -> None:
    path = state / "keys.json"
    path.write_text(json.dumps(recorded["keys.json"]))
    path.chmod(0o600)
    (key,) = read_keys(path).values()
    assert (key.name, key.models) == ("x", ("*",))


def test_a_worker_is_started_by_an_earlier_supervisor(recorded: dict[str, Any]) -> None:
    spec = WorkerSpec.handed_over(json.dumps(recorded["EW_WORKER"]))
    assert spec.model.engine_args == {"tokens_per_s": 20}


def test_a_worker_is_started_by_a_later_supervisor(recorded: dict[str, Any]) -> None:
    handed = {**recorded["EW_WORKER"], "of_later": {"a": 1}}
    handed["model"] = {**handed["model"], "of_later": 2}
    assert WorkerSpec.handed_over(json.dumps(handed)) == WorkerSpec.handed_over(
        json.dumps(recorded["EW_WORKER"])
    )


def test_a_later_version_may_add_fields(recorded: dict[str, Any], state: Path) -> None:
    job = msgspec.msgpack.decode(_raw(recorded["job"]))
    later = msgspec.msgpack.encode({**job, "of_later": 1})
    assert decode_job(later) == decode_job(_raw(recorded["job"]))
    beat = msgspec.msgpack.decode(_raw(recorded["worker_beat"]))
    later = msgspec.msgpack.encode({**beat, "of_later": 1})
    assert msgspec.msgpack.decode(later, type=Heartbeat).model == "mock"
    grown = 0
    frames = [msgspec.msgpack.decode(_raw(frame)) for frame in recorded["frames"]]
    for *head, event in (envelope for frame in frames for envelope in frame):
        now = decode_frame(msgspec.msgpack.encode([[*head, event]]))
        # Its last fields may have been left out where they say nothing.
        if len(event) >= len(msgspec.msgpack.decode(msgspec.msgpack.encode(now[0].event))):
            assert decode_frame(msgspec.msgpack.encode([[*head, [*event, "later"]]])) == now
            grown += 1
    assert grown >= 4
    run = {**recorded["processes.json"], "of_later": 1}
    run["units"] = [{**unit, "of_later": 1} for unit in run["units"]]
    (run_dir() / "processes.json").write_text(json.dumps(run))
    assert len((read_run() or pytest.fail("no run")).units) == 3


def _raw(text: str) -> bytes:
    """Return bytes that are written down as Latin-1."""
    return text.encode("latin1")
