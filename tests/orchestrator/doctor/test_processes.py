"""Units that the supervisor could not start are told with their cause and the next step."""

from __future__ import annotations

from contract.messages import State
from contract.supervision.problem import Problem
from contract.supervision.status import ModelStatus, RedisStatus, RunStatus, WorkerStatus
from orchestrator.doctor.processes import problems_of
from orchestrator.environments.preflight import Check


def a_model(slot: str, state: State, problem: Problem | None) -> ModelStatus:
    worker = WorkerStatus(slot, slot, state, 0.0, "mock", ".venv", problem=problem)
    return ModelStatus(slot, state, 0, 0, 0.0, [worker])


def test_what_cannot_run_is_named() -> None:
    damaged = Problem("valkey exited with code 1", "the queue's data is damaged: move it away")
    ended = Problem("exited with code 1")
    status = RunStatus(
        0.0,
        redis=RedisStatus(State.FAILED, embedded=True, since_unix_s=0.0, problem=damaged),
        models=[
            a_model("given-up-0", State.FAILED, ended),
            a_model("again-0", State.STARTING, ended),
            a_model("recovered-0", State.READY, ended),
            a_model("stopped-0", State.STOPPED, ended),
            a_model("waits-0", State.STARTING, None),
        ],
    )
    assert list(problems_of(status)) == [
        Check("valkey", damaged.message, damaged.hint, is_fatal=True),
        Check("given-up-0", ended.message, "`./ew logs given-up-0` says more", is_fatal=True),
        Check("again-0", ended.message, "`./ew logs again-0` says more", is_fatal=False),
    ]
