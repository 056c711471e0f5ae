"""Benchmarks: the cost of ew, and its speed. Each is one command, prints a table, and with --json
FILE writes the record.

    scripts/bench wire --against main             ew alone, with the mock engine at 5 ms steps
    scripts/bench growth                          cost by streams, models and queued jobs; memory
                                                  (1.5 minutes a round; --part for some of it)
    scripts/bench start                           ew's commands, and how long ew takes to start
    scripts/bench console                         what an open page of the console costs
    scripts/bench batch                           a batch of 100 000 lines while ew is killed
    scripts/bench servers --url URL --against URL any two OpenAI-compatible servers
    scripts/bench routers                         ew beside nginx, vllm-router and sglang-router

--against of the first three names another build of ew, a directory or a commit: both run at the
same time, and are measured in turn, as only ratios of one run count on a machine that has other
work. CPU is in seconds per million tokens; `load` is what the load generator took beside them.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import batch  # its folder has to be on the path first
import console
import growth
import routers
import servers
import start
import wire


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="WHAT")
    for module in (wire, growth, start, console, batch, servers, routers):
        about = (module.__doc__ or "").split("\n\n")[0]
        command = commands.add_parser(module.__name__, help=about, description=about)
        command.set_defaults(run=module.run)
        command.add_argument("--rounds", type=int, default=5)
        command.add_argument("--json", type=Path, metavar="FILE")
    for module in (wire, growth, start):
        commands.choices[module.__name__].add_argument("--against", metavar="BUILD")
    for module in (wire, servers, routers):
        command = commands.choices[module.__name__]
        command.add_argument("--streams", type=_numbers, default=[64, 256, 512])
        command.add_argument("--tokens", type=int, default=256)
        module.add_options(command)
    for each in (batch, growth):
        each.add_options(commands.choices[each.__name__])
    args = parser.parse_args()
    # Processes that were started are stopped, however this ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    args.run(args)


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


if __name__ == "__main__":
    main()
