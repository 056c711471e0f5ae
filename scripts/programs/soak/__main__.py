"""A soak: many answers at a time from two hosts, for hours, with a fault every few seconds, and
every token looked at.

    scripts/soak --out DIR                          two hours, 64 streams
    scripts/soak --out DIR --seconds 60 --every 2 4

Of the two hosts, one has the Valkey, and its processes are killed, one after the other. Those of
the other are never killed: they are stopped, cut off and reset, and what they take is watched
for growth. DIR/soak.json and DIR/soak.md say what was found, and are written anew every minute.
It exits with 1 if a token was lost, came twice or was wrong, an answer failed, a process ended by
itself, or a kind of fault never happened.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from faults import Faults  # its folder has to be on the path first
from hosts import Setting
from proxy import Proxy
from report import facts, write
from samples import Sampler
from streams import Client, Counts

#: The time that streams are given after the last fault.
_ENDS_WITHIN_S = 400.0


@dataclass
class Run:
    """The parts of one run."""

    args: argparse.Namespace
    setting: Setting
    clients: list[Client]
    counts: Counts
    faults: Faults
    sampler: Sampler
    began: float
    #: Ends of processes that no fault was.
    crashes: list[str] = field(default_factory=list)

    def write(self) -> dict[str, Any]:
        run = {
            "seconds": round(time.monotonic() - self.began),
            "streams": self.args.streams,
            "seed": self.args.seed,
            "fault_every_s": self.args.every,
        }
        self.crashes = [*self.setting.killed.crashes(), *self.setting.kept.crashes()]
        run["crashes"] = self.crashes
        found = facts(self.counts, self.faults.record, self.sampler, run)
        write(found, self.args.out)
        return found

    async def go(self) -> None:
        until = self.began + self.args.seconds
        reading = [asyncio.create_task(client.run()) for client in self.clients]
        watching = asyncio.create_task(self._watch())
        await self.faults.run(tuple(self.args.every), until)
        for client in self.clients:
            client.stops = True
        _, left = await asyncio.wait(reading, timeout=_ENDS_WITHIN_S)
        if left:
            self.counts.failed["not done at the end"] += len(left)
        watching.cancel()
        await asyncio.wait([watching, *left], timeout=0)
        self.counts.accounted = await self.setting.counted_tokens()
        if self.args.settle:
            await self.sampler.run(self.args.sample, time.monotonic() + self.args.settle)

    async def _watch(self) -> None:
        while True:
            await self.sampler.sample()
            self.write()
            await asyncio.sleep(self.args.sample)

    def problems(self) -> list[str]:
        """Reasons for which it is no success."""
        record = self.faults.record
        never = [kind for kind in self.faults.kinds if not record.done[kind]]
        found = [] if self.counts.is_clean else ["not every answer is whole: see soak.md"]
        found += [f"a process ended by itself: {line}" for line in self.crashes]
        return found + [f"this fault never happened: {kind}" for kind in never]


async def main(args: argparse.Namespace) -> int:
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ew-soak-") as directory:
        setting = Setting(Path(directory), replicas=args.replicas, processes=args.processes)
        proxy = Proxy(setting.killed.valkey_socket())
        try:
            await setting.start_killed()
            await setting.start_kept(await proxy.start())
            run = _run(args, setting, proxy)
            await run.go()
            run.write()
        finally:
            proxy.resume()
            await setting.stop()
            proxy.close()
    print((args.out / "soak.md").read_text())
    for problem in (problems := run.problems()):
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def _run(args: argparse.Namespace, setting: Setting, proxy: Proxy) -> Run:
    counts = Counts()
    ports = (setting.killed.port, setting.kept.port)
    clients = [
        Client(ports, setting.key, counts, f"{args.seed}-{number}", args.tokens)
        for number in range(args.streams)
    ]
    faults = Faults(setting, proxy, clients, random.Random(args.seed), args.scale)
    return Run(args, setting, clients, counts, faults, Sampler(setting), time.monotonic())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--seconds", type=float, default=7200)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=240, help="of the longest answer; 4 a second")
    parser.add_argument("--every", type=float, nargs=2, default=[5, 10], metavar="S")
    parser.add_argument("--scale", type=float, default=1, help="of shorter standstills")
    parser.add_argument("--sample", type=float, default=60, metavar="S")
    parser.add_argument("--settle", type=float, default=0, metavar="S", help="at rest, at the end")
    parser.add_argument("--replicas", type=int, default=2, help="workers on each host")
    parser.add_argument("--processes", type=int, default=2, help="of each gateway")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    # Processes that were started are stopped, however this ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(asyncio.run(main(_arguments())))
