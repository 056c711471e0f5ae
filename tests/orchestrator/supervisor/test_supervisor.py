"""The supervisor with real processes, real signals and a real Valkey."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import redis
from msgspec.structs import replace
from redis.exceptions import RedisError

from contract.bus.client import connect
from contract.bus.heartbeats import GATEWAYS, HOSTS, Heartbeats
from contract.bus.queue import MAX_ATTEMPTS, JobQueue
from contract.bus.records.worker_ends import WorkerEnd, WorkerEnds
from contract.endings import CANNOT_SERVE, REASON, EndedBy
from contract.host_beat import HostBeat
from contract.messages import State
from contract.paths import logs_dir, run_dir, state_dir
from contract.process.ports import free_port
from contract.process.process_table import read_environment, read_table
from contract.supervision.control import Finished, Refused, StartProgress
from contract.supervision.problem import Problem
from contract.supervision.status import status_path
from orchestrator.client.connect import connect_or_spawn
from orchestrator.client.reach import is_running
from orchestrator.protocol.control import Follow, Start
from orchestrator.protocol.specs import GatewaySpec
from orchestrator.supervisor.reporting import run_file as runfile
from orchestrator.system.marks import ROOT_VARIABLE
from orchestrator.system.ports import PortClaims
from orchestrator.system.valkey import embedded_url
from tests.conftest import ValkeyServer
from tests.orchestrator.conftest import Host, is_alive
from tests.waiting import BUSY, eventually


def leases(model: str) -> set[str]:
    async def read() -> set[str]:
        db = connect(embedded_url(), connections=1)
        try:
            return await Heartbeats(db, model).names()
        finally:
            await db.aclose()

    return asyncio.run(read())


def test_a_start_tells_its_stages_and_ends_when_all_is_ready(host: Host, model: str) -> None:
    loads = host.worker(model, ready_after_s=1.0, remark="of 5 GiB")
    answers = host.ask(Start(workers=[loads]))
    stages = [
        answer.stage
        for answer in answers
        if isinstance(answer, StartProgress) and answer.slot == f"{model}-0"
    ]
    assert stages == ["waiting", "waiting for valkey", "starting", "loading (of 5 GiB)", ""]
    assert {outcome.slot: outcome.state for outcome in answers[-1].outcomes} == {
        "valkey": State.READY,
        f"{model}-0": State.READY,
    }


def test_starting_what_runs_changes_nothing_and_says_so(host: Host, model: str) -> None:
    host.start(host.worker(model))
    before = host.find_worker(f"{model}-0").pid
    outcomes = host.start(host.worker(model))
    assert outcomes[1].note == "runs already"
    assert host.find_worker(f"{model}-0").pid == before


def test_the_log_of_a_run_that_was_stopped_has_no_errors(host: Host, model: str) -> None:
    host.start(host.worker(model))
    host.stop()
    log = (logs_dir() / "supervisor.log").read_text()
    assert "everything is stopped" in log
    assert "ERROR" not in log


def test_two_starts_at_once_make_one_supervisor_and_one_worker(host: Host, model: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        starts = [pool.submit(host.start, host.worker(model)) for _ in range(4)]
        outcomes = [start.result()[1] for start in starts]
    assert {outcome.state for outcome in outcomes} == {State.READY}
    assert len(host.processes()) == 2


def test_a_killed_worker_loses_its_lease_and_is_replaced(host: Host, model: str) -> None:
    host.start(host.worker(model))
    killed = host.find_worker(f"{model}-0")
    assert leases(model) == {killed.name}
    os.kill(killed.pid or 0, signal.SIGKILL)
    eventually(lambda: killed.name not in leases(model), 2 * BUSY)
    now = eventually(
        lambda: (
            (worker := host.find_worker(f"{model}-0")).state is State.READY
            and worker.pid != killed.pid
            and worker
        )
    )
    assert now.restarts == 1
    assert "was killed by SIGKILL" in now.problem.message
    assert leases(model) == {now.name}


def test_a_killed_gateway_loses_its_lease(host: Host, model: str) -> None:
    gateway = GatewaySpec(sys.executable, "127.0.0.1", free_port(), 1.0)
    host.start(host.worker(model), gateway=gateway)
    (killed,) = eventually(lambda: leases(GATEWAYS))
    # Its heartbeat has to have been seen while it ran.
    eventually(lambda: host.status().gateway.processes)
    os.kill(host.status().gateway.pid or 0, signal.SIGKILL)
    eventually(lambda: killed not in leases(GATEWAYS))


def test_jobs_that_break_their_workers_do_not_end_their_model(host: Host, model: str) -> None:
    host.start(host.worker(model))
    killed = set()
    for _ in range(2):
        broken = []
        for _ in range(MAX_ATTEMPTS):
            worker = eventually(
                lambda: (
                    (found := host.find_worker(f"{model}-0")).state is State.READY
                    and found.pid not in killed
                    and found
                )
            )
            os.kill(worker.pid or 0, signal.SIGKILL)
            killed.add(worker.pid)
            broken.append(worker.name)
        end_as_poison(model, broken)
        eventually(
            lambda broken=broken: (
                f"the end of {sorted(broken)}" in (logs_dir() / "supervisor.log").read_text()
            )
        )
        ends = ends_of(model, broken)
        assert {end.exit_code for end in ends.values()} == {-signal.SIGKILL}
        assert all("was killed by SIGKILL" in ends[name].cause for name in broken)
        assert ended_by(model, broken) == {EndedBy.OUTSIDE}
    eventually(
        lambda: (
            (found := host.find_worker(f"{model}-0")).state is State.READY
            and found.pid not in killed
        )
    )
    assert len(killed) == 2 * MAX_ATTEMPTS


def test_a_worker_that_crashes_is_told_from_one_that_is_killed(host: Host, model: str) -> None:
    host.start(host.worker(model))
    worker = host.find_worker(f"{model}-0")
    os.kill(worker.pid or 0, signal.SIGSEGV)
    eventually(lambda: ended_by(model, [worker.name]) == {EndedBy.ITSELF})


def ended_by(model: str, workers: list[str]) -> set[str]:
    """Return what is known when the leases of these end."""
    with redis.Redis.from_url(embedded_url(), decode_responses=True) as db:
        return {db.get(f"ew:{{{model}}}:ended_by:{name}") for name in workers}


def ends_of(model: str, workers: list[str]) -> dict[str, WorkerEnd]:
    async def read() -> dict[str, WorkerEnd]:
        db = connect(embedded_url(), connections=1)
        try:
            return await WorkerEnds(db, model).of(workers)
        finally:
            await db.aclose()

    return asyncio.run(read())


def end_as_poison(model: str, workers: list[str]) -> None:
    async def reap() -> None:
        db = connect(embedded_url(), connections=1)
        await db.xadd(
            JobQueue(db, model).dead_letters.key,
            {"reason": "poison", "workers": " ".join(workers), "job": b""},
        )
        await db.aclose()

    asyncio.run(reap())


def test_nothing_that_a_worker_has_started_survives_it(host: Host, model: str) -> None:
    host.start(host.worker(model, has_orphans=True))
    worker = host.find_worker(f"{model}-0")
    family = {entry.pid for entry in host.processes() if entry.pid != host.status().redis.pid}
    table = read_table().values()
    bare = [entry.pid for entry in table if entry.parent == worker.pid and not entry.is_zombie]
    family.update(bare)
    assert len(family) == 5
    # One of them has no mark: the supervisor knows it only from having seen it there.
    eventually(lambda: host.find_worker(f"{model}-0").rss_mib)
    os.kill(worker.pid or 0, signal.SIGKILL)
    eventually(lambda: not any(map(is_alive, family)))


def test_stop_ends_a_daemon_that_has_emptied_its_environment(host: Host, model: str) -> None:
    pid_file = host.directory / "daemon"
    host.start(host.worker(model, daemon_pid=str(pid_file)))
    eventually(lambda: pid_file.exists() and pid_file.read_text())
    daemon = int(pid_file.read_text())
    assert is_alive(daemon)
    assert read_environment(daemon) <= {"", "LC_CTYPE=C.UTF-8"}
    host.stop()
    eventually(lambda: not is_alive(daemon))


def test_stop_of_a_model_ends_its_hidden_daemon_and_no_other(host: Host, model: str) -> None:
    files = [host.directory / "daemon", host.directory / "other"]
    host.start(
        host.worker(model, daemon_pid=str(files[0])), host.worker("x", daemon_pid=str(files[1]))
    )
    eventually(lambda: all(file.exists() and file.read_text() for file in files))
    daemon, other = (int(file.read_text()) for file in files)
    for pid in (daemon, other):
        assert is_alive(pid)
        assert read_environment(pid) <= {"", "LC_CTYPE=C.UTF-8"}
    host.stop(model)
    eventually(lambda: not is_alive(daemon))
    assert is_alive(other)
    os.kill(host.find_worker("x-0").pid or 0, signal.SIGKILL)
    eventually(lambda: not is_alive(other))


def test_stop_leaves_no_process_and_no_file_of_the_run(host: Host, model: str) -> None:
    host.start(host.worker(model, has_orphans=True), host.worker(model, replica=1))
    supervisor = host.supervisor_pid()
    host.stop()
    eventually(lambda: not is_alive(supervisor))
    assert host.processes() == []
    assert list(run_dir().iterdir()) == []
    assert not status_path().exists()
    assert (state_dir() / "valkey" / "appendonlydir").is_dir()


def test_gateways_are_told_which_models_have_ended(host: Host, model: str) -> None:
    host.start(host.worker(model), host.worker("other"))
    eventually(lambda: prospects() == ({model, "other"}, {}))
    host.stop(model)
    eventually(lambda: prospects() == ({"other"}, {model: "it was stopped"}))
    host.start(host.worker(model))
    eventually(lambda: prospects() == ({model, "other"}, {}))


def prospects() -> tuple[set[str], dict[str, str]]:
    async def read() -> list[bytes]:
        db = connect(embedded_url(), connections=1)
        try:
            return await Heartbeats(db, HOSTS).alive()
        finally:
            await db.aclose()

    (body,) = asyncio.run(read())
    beat = msgspec.msgpack.decode(body, type=HostBeat)
    return set(beat.coming), beat.ended


def test_stop_of_one_model_leaves_the_others(host: Host, model: str) -> None:
    host.start(host.worker(model), host.worker("other"))
    answer = host.stop(model)
    assert isinstance(answer, Finished)
    assert host.find_worker(f"{model}-0").state is State.STOPPED
    assert host.find_worker("other-0").state is State.READY
    assert host.start(host.worker(model))[1].state is State.READY


def test_a_worker_that_does_not_hear_is_killed_when_it_must_be(host: Host, model: str) -> None:
    host.start(host.worker(model, is_deaf=True))
    pid = host.find_worker(f"{model}-0").pid or 0
    host.stop(now=True)
    assert not is_alive(pid)
    assert host.processes() == []


def test_a_worker_that_goes_on_as_if_not_told_is_not_waited_for(host: Host, model: str) -> None:
    host.start(host.worker(model, is_deaf=True), host.worker("other"))
    pid = host.find_worker(f"{model}-0").pid or 0
    host.stop(model)
    assert not is_alive(pid)
    log = (logs_dir() / "supervisor.log").read_text()
    assert f"{model}-0 did not hear within 10 s that it should stop" in log
    assert host.find_worker("other-0").state is State.READY


def test_who_was_stopped_by_a_signal_is_made_to_hear(host: Host, model: str) -> None:
    gateway = GatewaySpec(sys.executable, "127.0.0.1", free_port(), 1.0)
    host.start(host.worker(model), gateway=gateway)
    served = host.status().gateway
    assert served is not None
    pids = [host.find_worker(f"{model}-0").pid or 0, served.pid or 0]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
        eventually(lambda pid=pid: kernel_state(pid) == "T")
    host.stop()
    assert not any(map(is_alive, pids))
    log = (logs_dir() / "supervisor.log").read_text()
    assert "is killed" not in log
    assert f"{model}-0 has stopped" in log
    assert "gateway has stopped" in log


def kernel_state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_when_the_supervisor_is_killed_the_rest_goes_on_and_is_adopted(
    host: Host, model: str
) -> None:
    host.start(host.worker(model), host.worker(model, replica=1))
    before = {entry.pid for entry in host.processes()}
    host.kill_supervisor()
    assert {entry.pid for entry in host.processes()} == before
    outcomes = host.start(host.worker(model), host.worker(model, replica=1))
    assert {outcome.note for outcome in outcomes} == {"runs already"}
    assert {entry.pid for entry in host.processes()} == before
    host.stop()
    assert host.processes() == []


def test_what_died_while_nobody_watched_is_started_again(host: Host, model: str) -> None:
    host.start(host.worker(model, has_orphans=True))
    dead = host.find_worker(f"{model}-0")
    orphans = {each.pid for each in host.processes() if each.pid != host.status().redis.pid}
    children = {each.pid for each in read_table().values() if each.parent == dead.pid}
    host.kill_supervisor()
    os.kill(dead.pid or 0, signal.SIGKILL)
    host.start(host.worker(model))
    assert not any(map(is_alive, orphans))
    # It has no mark, and no supervisor watched: this one cannot be found.
    (unmarked,) = filter(is_alive, children - orphans)
    os.kill(unmarked, signal.SIGKILL)
    assert leases(model) == {host.find_worker(f"{model}-0").name}


def test_an_adopted_worker_that_dies_is_replaced(host: Host, model: str) -> None:
    host.start(host.worker(model))
    adopted = host.find_worker(f"{model}-0")
    host.kill_supervisor()
    host.start(host.worker(model))
    os.kill(adopted.pid or 0, signal.SIGKILL)
    eventually(lambda: host.find_worker(f"{model}-0").name != adopted.name)
    eventually(lambda: leases(model) == {host.find_worker(f"{model}-0").name})


def test_a_reused_pid_is_never_signalled(host: Host, model: str) -> None:
    host.start(host.worker(model))
    host.kill_supervisor()
    with subprocess.Popen(["sleep", "60"]) as stranger:
        run = runfile.read_run()
        assert run is not None
        for entry in host.processes():
            os.kill(entry.pid, signal.SIGKILL)
        units = [
            replace(unit, identity=replace(unit.identity, pid=stranger.pid)) for unit in run.units
        ]
        runfile.write_run(replace(run, units=units))
        assert host.start(host.worker(model))[1].state is State.READY
        host.stop()
        assert stranger.poll() is None
        stranger.kill()


def test_what_was_started_but_never_recorded_is_found_and_ended(host: Host, model: str) -> None:
    marked = {**os.environ, ROOT_VARIABLE: str(run_dir())}
    with subprocess.Popen(["sleep", "60"], env=marked) as orphan:
        host.start(host.worker(model))
        eventually(lambda: orphan.poll() == -signal.SIGKILL)


def test_a_crash_loop_is_given_up_with_the_reason_and_harms_nobody_else(
    host: Host, model: str
) -> None:
    says = ["loading weights", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate"]
    outcomes = host.start(host.worker("good"), host.worker(model, says=says, exits=7))
    good, bad = outcomes[1], outcomes[2]
    assert good.state is State.READY
    assert bad.state is State.FAILED
    assert bad.problem is not None
    assert bad.problem.message == f"{model}-0 exited with code 7"
    assert bad.problem.log_tail == says
    assert "`max_model_len`" in bad.problem.hint
    assert host.find_worker(f"{model}-0").restarts == 2


def test_a_start_that_cannot_succeed_is_not_tried_again(host: Host, model: str) -> None:
    says = ["ModuleNotFoundError: No module named 'vllm'"]
    outcome = host.start(host.worker(model, says=says, exits=1))[1]
    assert outcome.state is State.FAILED
    assert outcome.problem is not None
    assert "./ew setup --engine mock" in outcome.problem.hint
    assert host.find_worker(f"{model}-0").restarts == 0


def test_a_worker_that_says_that_it_cannot_serve_is_taken_at_its_word(
    host: Host, model: str
) -> None:
    says = ["loading", f"2026 ERROR w: {REASON}no `max_num_seq`", "noise of a library at its end"]
    outcome = host.start(host.worker(model, says=says, exits=CANNOT_SERVE))[1]
    assert (outcome.state, outcome.problem) == (
        State.FAILED,
        Problem(f"{model}-0 cannot serve: no `max_num_seq`"),
    )
    worker = host.find_worker(f"{model}-0")
    assert (worker.state, worker.restarts, worker.problem) == (State.FAILED, 0, outcome.problem)


def test_a_missing_environment_is_named(host: Host, model: str) -> None:
    outcome = host.start(host.worker(model, python="/nowhere/bin/python"))[1]
    assert outcome.state is State.FAILED
    assert outcome.problem is not None
    assert "/nowhere/bin/python" in outcome.problem.message


def test_a_start_that_never_ends_is_ended(host: Host, model: str) -> None:
    outcome = host.start(host.worker(model, ready_after_s=1000, start_timeout_s=1.0))[1]
    assert outcome.state is State.FAILED
    assert outcome.problem is not None
    # On a busy machine a worker may not have said that it loads by then.
    told = r"was not ready after 1 s \((starting|loading)\)"
    assert re.search(told, outcome.problem.message)
    assert [entry.program for entry in host.processes()] == ["valkey-server"]


def test_a_failed_model_starts_when_it_is_asked_for_again(host: Host, model: str) -> None:
    says = ["No module named 'vllm'"]
    assert host.start(host.worker(model, says=says, exits=1))[1].state is State.FAILED
    assert host.start(host.worker(model))[1].state is State.READY


def test_a_killed_valkey_is_back_within_two_seconds_with_its_data(host: Host, model: str) -> None:
    host.start(host.worker(model))
    valkey, worker = host.status().redis, host.find_worker(f"{model}-0")
    asyncio.run(_put("ew:{m}:kept", "yes"))
    os.kill(valkey.pid, signal.SIGKILL)
    eventually(lambda: asyncio.run(_get("ew:{m}:kept")) == b"yes", 2 * BUSY)
    eventually(lambda: host.status().redis.state is State.READY)
    assert host.status().redis.restarts == 1
    assert host.find_worker(f"{model}-0").pid == worker.pid


def test_only_their_owner_can_use_the_sockets(host: Host, model: str) -> None:
    host.start(host.worker(model))
    for name in ("control.sock", "valkey.sock", "processes.json"):
        assert stat.S_IMODE((run_dir() / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(run_dir().stat().st_mode) == 0o700


def test_a_taken_port_is_named_with_its_owner_and_nothing_is_started(
    host: Host, model: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        gateway = GatewaySpec(sys.executable, "127.0.0.1", port, 1.0)
        answer = host.ask(Start(workers=[host.worker(model)], gateway=gateway))[-1]
    assert isinstance(answer, Refused)
    assert answer.message.startswith(f"port {port} is in use by ")
    assert f"(pid {os.getpid()})" in answer.message
    assert host.processes() == []


def test_a_port_that_another_ew_is_about_to_listen_at_is_refused(host: Host, model: str) -> None:
    port, claims = free_port(), PortClaims()
    claims.take("127.0.0.1", port)
    config = {"gateway": {"admin_port": port}}
    for gateway in (
        GatewaySpec(sys.executable, "127.0.0.1", port, 1.0),
        GatewaySpec(sys.executable, "127.0.0.1", free_port(), 1.0, config),
    ):
        answer = host.ask(Start(workers=[host.worker(model)], gateway=gateway))[-1]
        assert isinstance(answer, Refused)
        assert (
            answer.message == f"port {port} is in use by another ew of this user, or will be soon"
        )
    assert host.processes() == []
    claims.close()


def test_everything_stops_when_the_one_who_holds_it_goes(host: Host, model: str) -> None:
    with connect_or_spawn() as lifeline:
        next(lifeline.ask(Follow(stop_at_end=True)))
        host.start(host.worker(model))
    eventually(lambda: not is_running())
    assert host.processes() == []


def test_a_signal_to_the_supervisor_stops_everything(host: Host, model: str) -> None:
    host.start(host.worker(model))
    os.kill(host.supervisor_pid(), signal.SIGTERM)
    eventually(lambda: list(run_dir().iterdir()) == [])
    assert host.processes() == []


def test_the_status_says_that_the_servers_memory_is_full(host: Host, model: str) -> None:
    """It answers, and the gateway takes nothing in: no command has failed yet."""

    async def fill() -> None:
        db = connect(embedded_url(), connections=1)
        used = (await db.info("memory"))["used_memory"]
        await db.config_set("maxmemory", used)
        await db.aclose()

    host.start(host.worker(model))
    assert "full" not in host.status().redis.stage
    asyncio.run(fill())
    eventually(lambda: "its memory is full" in host.status().redis.stage)


def test_the_status_counts_tokens_and_memory(host: Host, model: str) -> None:
    host.start(host.worker(model, tokens_per_s=100, running=3))
    worker = eventually(
        lambda: (seen := host.find_worker(f"{model}-0")).tokens_per_s > 0 and seen.rss_mib and seen
    )
    eventually(lambda: 70 < host.find_worker(f"{model}-0").tokens_per_s < 130)
    assert worker.running == 3
    assert worker.version == "1.2.3"
    redis = host.status().redis
    assert redis.append_only_file
    assert redis.version.count(".") == 2


def test_an_external_redis_is_used_and_watched(
    host: Host, model: str, own_valkey: ValkeyServer
) -> None:
    request = Start(workers=[host.worker(model)], redis_url=own_valkey.url)
    answer = host.ask(request)[-1]
    assert isinstance(answer, Finished)
    assert [outcome.slot for outcome in answer.outcomes] == [f"{model}-0"]
    redis = eventually(lambda: host.status().redis)
    assert (redis.embedded, redis.state) == (False, State.READY)

    other = host.ask(Start(workers=[host.worker("other")]))[-1]
    assert isinstance(other, Refused)
    assert "another Redis" in other.message

    own_valkey.kill()
    eventually(lambda: host.status().redis.state is State.FAILED)
    assert host.find_worker(f"{model}-0").state is State.READY
    own_valkey.start()
    eventually(lambda: host.status().redis.state is State.READY)
    host.stop()
    assert host.processes() == []
    assert own_valkey.process is not None
    assert own_valkey.process.poll() is None


def test_while_a_start_waits_for_its_own_server_another_redis_is_refused(
    host: Host, model: str
) -> None:
    (state_dir() / "valkey/appendonlydir").mkdir(parents=True)
    (state_dir() / "valkey/appendonlydir/appendonly.aof.manifest").write_text("nonsense\n")
    with connect_or_spawn() as first, connect_or_spawn() as second:
        answers = first.ask(Start(workers=[host.worker(model)]))
        # The first time it is started again at once.
        for _ in range(2):
            next(
                each
                for each in answers
                if isinstance(each, StartProgress) and "again" in each.stage
            )
        refused = list(second.ask(Start(workers=[], redis_url="redis://127.0.0.1:1")))[-1]
        assert isinstance(refused, Refused)
        assert "another Redis" in refused.message
        end = list(answers)[-1]
    assert isinstance(end, Finished)
    assert end.outcomes[0].state is State.FAILED
    # It will not come any more, so a start may name another.
    answer = host.ask(Start(workers=[], redis_url="redis://127.0.0.1:1"))[-1]
    assert answer == Finished([])


async def _put(key: str, value: str) -> None:
    db = connect(embedded_url(), connections=1)
    await db.set(key, value)
    await db.aclose()


async def _get(key: str) -> bytes | None:
    db = connect(embedded_url(), connections=1)
    try:
        return await db.get(key)
    except (RedisError, OSError):
        return None
    finally:
        await db.aclose()
