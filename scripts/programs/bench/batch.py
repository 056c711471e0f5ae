"""A batch of very many lines, while each process of ew is killed in turn: gateway, worker, Valkey
and supervisor. Each line has to be answered once.

The mock engine answers. What it takes in time, memory and disk is printed; a line that is missing,
or there twice, or failed, is an error.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from report import table, write
from stand import ROOT, Build, Stand
from wire import mock_config

_KINDS: Final = ("gateway", "worker", "valkey", "supervisor")
_LOOK_EVERY_S: Final = 1.0


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--answer-tokens", type=int, default=4)
    parser.add_argument("--kill-every", type=float, default=20.0, metavar="S", help="0: no kills")


def run(args: argparse.Namespace) -> None:
    """One batch. Raises `SystemExit` if a line is not answered once."""
    with Stand(Build("this", ROOT), mock_config(200)) as stand:
        found = _measure(stand, args)
    print(table(list(found), [list(found.values())]))
    write(args.json, "batch under kills", found)


def _measure(stand: Stand, args: argparse.Namespace) -> dict[str, Any]:
    files = {name: stand.directory / f"{name}.jsonl" for name in ("in", "out", "out.errors")}
    with files["in"].open("w") as file:
        file.writelines(_lines(args.lines, args.answer_tokens))
    began = time.monotonic()
    command = [ROOT / "ew", "batch", "run", str(files["in"]), "--out", str(files["out"])]
    environment = {**stand.environment, "EW_API_KEY": stand.key}
    client = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    kills, most = _kill_in_turn(stand, client, args.kill_every)
    said = client.stderr.read() if client.stderr else ""
    took_s = time.monotonic() - began
    if client.returncode:
        raise SystemExit(f"the batch did not end well after {kills} kills: {said[-2000:]}")
    _check(files, args.lines)
    state = sum(each.stat().st_size for each in stand.directory.rglob("*") if each.is_file())
    return {
        "lines": args.lines,
        "seconds": took_s,
        "lines/s": args.lines / took_s,
        "kills": sum(kills.values()),
        **{f"{kind} MiB": most[kind] / 2**20 for kind in most},
        "input MiB": files["in"].stat().st_size / 2**20,
        "answers MiB": files["out"].stat().st_size / 2**20,
        "state MiB": (state - sum(f.stat().st_size for f in files.values() if f.exists())) / 2**20,
    }


def _lines(count: int, tokens: int) -> Iterator[str]:
    for number in range(count):
        messages = [{"role": "user", "content": f"count for line {number}"}]
        body = {"model": "mock", "messages": messages, "max_tokens": tokens}
        line = {"custom_id": f"line-{number}", "method": "POST", "url": "/v1/chat/completions"}
        yield json.dumps({**line, "body": body}) + "\n"


def _kill_in_turn(
    stand: Stand, client: subprocess.Popen[str], every_s: float
) -> tuple[Counter[str], Counter[str]]:
    """Kill one process after the other until the client has ended. Return how often each kind was
    killed, and the most memory of its own that each was seen with."""
    kills: Counter[str] = Counter()
    most: Counter[str] = Counter()
    kill_at = time.monotonic() + (every_s or float("inf"))
    while client.poll() is None:
        time.sleep(_LOOK_EVERY_S)
        for kind in _KINDS[:3]:
            try:
                most[kind] = max(most[kind], stand.private_bytes(kind))
            except (OSError, KeyError, TypeError):
                continue  # it is just dead
        if time.monotonic() >= kill_at:
            kind = _KINDS[kills.total() % len(_KINDS)]
            if _kill(stand, kind):
                kills[kind] += 1
            kill_at = time.monotonic() + every_s
    return kills, most


def _kill(stand: Stand, kind: str) -> bool:
    """SIGKILL one process of this kind. False if none runs just now."""
    try:
        pid = stand.status()["supervisor"]["pid"] if kind == "supervisor" else stand.pids(kind)[0]
        os.kill(pid, signal.SIGKILL)
    except (OSError, KeyError, TypeError, IndexError):
        return False
    if kind == "supervisor":
        stand.start()
    return True


def _check(files: dict[str, Path], lines: int) -> None:
    """Raises `SystemExit` unless each line is in the answers, once, and answered."""
    seen = bytearray(lines)
    with files["out"].open() as file:
        for text in file:
            answer = json.loads(text)
            number = int(answer["custom_id"].removeprefix("line-"))
            choice = answer["response"]["body"]["choices"][0]
            if not choice["message"]["content"].startswith("0 1 "):
                raise SystemExit(f"line {number} has another answer: {choice}")
            seen[number] += 1
    if counts := Counter(seen) - Counter({1: lines}):
        raise SystemExit(f"lines by how often they were answered: {dict(counts)}")
