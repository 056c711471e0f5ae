#!/usr/bin/env bash
# redis-py 8.1.0 (asyncio): where no Sentinel can be asked, `Sentinel.discover_master` raises a
# `MasterNotFoundError` that says of each Sentinel all options of its client, and of its error
# `network:ConnectionError`. One would guess that it says what went wrong, as a client of one server does:
# that nothing listens there, or that the certificate is refused. The text is made with `repr`, which
# the errors have overridden by their category and class, and there is no `__cause__` either.
#
# What helps: to ask `Sentinel.sentinels` oneself, by `sentinel_masters` and `check_master_state`.
#
# Output seen (CPython 3.11):
#     a client of a server: Error 111 connecting to 127.0.0.1
#     the Sentinels' client: network:ConnectionError, its cause: None
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check redis==8.1.0
cat > try.py <<'PYTHON'
"""A port where nothing listens, asked as a server and as a Sentinel."""
import asyncio
import re
import socket

from redis.asyncio import Redis, Sentinel
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as LostConnection

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    PORT = probe.getsockname()[1]
OPTIONS = {"retry": Retry(NoBackoff(), 0)}


async def error_of(asking):
    try:
        await asking
    except LostConnection as error:
        return error


async def main():
    server = Redis(host="127.0.0.1", port=PORT, **OPTIONS)
    said = str(await error_of(server.ping()))
    print("a client of a server:", re.match(r"Error \d+ connecting to [\d.]+", said)[0])
    sentinel = Sentinel([("127.0.0.1", PORT)], sentinel_kwargs=OPTIONS)
    error = await error_of(sentinel.discover_master("prod"))
    end = str(error).rpartition(" - ")[2]
    print(f"the Sentinels' client: {end}, its cause: {error.__cause__}")
    assert "111" not in str(error).rpartition(">")[2]


asyncio.run(main())
PYTHON
env/bin/python try.py | tee seen
grep -q "network:ConnectionError, its cause: None" seen
