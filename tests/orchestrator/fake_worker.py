"""A worker without an engine: beats like a real one, and misbehaves as it is told.

Its behaviour is in `engine_args` of its spec.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

from redis.exceptions import RedisError

from contract.bus.client import connect, wait_for_server
from contract.bus.heartbeats import Heartbeats
from contract.messages import Heartbeat, State
from contract.process.subreaper import adopt_orphans

SLEEP = [sys.executable, "-c", "import time; time.sleep(300)"]


def main() -> None:
    spec = json.loads(os.environ["EW_WORKER"])
    adopt_orphans()
    args: dict[str, Any] = spec["model"].get("engine_args", {})
    for line in args.get("says", []):
        sys.stderr.write(f"{line}\n")
    if args.get("is_deaf"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if args.get("has_orphans"):
        _make_orphans()
    if "daemon_pid" in args:
        _make_daemon(args["daemon_pid"])
    if "exits" in args:
        sys.exit(args["exits"])
    asyncio.run(_serve(spec, args))


async def _serve(spec: dict[str, Any], args: dict[str, Any]) -> None:
    if not args.get("is_deaf"):
        # Not `sys.exit`: it cancels what runs, and redis-py may lose that (contract.process.tasks).
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, os._exit, 0)
    db = connect(spec["redis_url"], connections=2)
    await wait_for_server(db, 10)
    heartbeats = Heartbeats(db, spec["model_id"])
    began = time.monotonic()
    ready_after_s = args.get("ready_after_s", 0.0)
    while True:
        is_ready = time.monotonic() - began >= ready_after_s
        beat = Heartbeat(
            name=spec["name"],
            model=spec["model_id"],
            engine=spec["engine"],
            host="here",
            remark=args.get("remark", ""),
            pid=os.getpid(),
            state=State.READY if is_ready else State.STARTING,
            stage="" if is_ready else "loading",
            version="1.2.3",
            running=args.get("running", 0),
            generated_tokens_total=int((time.monotonic() - began) * args.get("tokens_per_s", 0)),
        )
        with contextlib.suppress(RedisError):
            await heartbeats.beat(spec["name"], beat, ready=is_ready)
        await asyncio.sleep(0.2)


def _make_daemon(pid_file: str) -> None:
    """One that nothing but its parent can be told by: no environment, no session, no group."""
    script = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(300)"
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execve(sys.executable, [sys.executable, "-c", script, pid_file], {})  # noqa: S606
        os._exit(0)
    os.wait()


def _make_orphans() -> None:
    """A child, one in a session of its own, a daemon, and one that has lost its environment."""
    subprocess.Popen(SLEEP)
    subprocess.Popen(SLEEP, start_new_session=True)
    subprocess.Popen(SLEEP, env={})
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            subprocess.Popen(SLEEP)
        os._exit(0)
    os.wait()


if __name__ == "__main__":
    main()
