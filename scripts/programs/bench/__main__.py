"""Benchmarks: the cost of ew, and its speed. Each is one command, prints a table, and with --json
FILE writes the record.

    scripts/bench wire --against main             ew alone, with the mock engine at 5 ms steps
    scripts/bench engine                          ew beside vllm serve, with the same real engine
    scripts/bench growth                          cost by streams, models and queued jobs; memory
                                                  (1.5 minutes a round; --part for some of it)
    scripts/bench start                           ew's commands, and how long ew takes to start
    scripts/bench console                         what an open page of the console costs
    scripts/bench batch                           a batch of 100 000 lines while ew is killed
    scripts/bench routers                         ew beside nginx, vllm-router and sglang-router

--against of wire, growth and start names another build of ew, a directory or a commit: both run at
the same time, and are measured in turn, as only ratios of one run count on a machine that has
other work. CPU is in seconds per million tokens. `load` is the CPU of the load generator beside
them, and `load %` what that is of one core.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import batch  # its folder has to be on the path first
import console
import engine
import growth
import routers
import start
import wire

_DEFAULT = "(default: %(default)s)"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="WHAT")
    for module in (wire, engine, growth, start, console, batch, routers):
        about = (module.__doc__ or "").split("\n\n")[0]
        command = commands.add_parser(module.__name__, help=about, description=about)
        command.set_defaults(run=module.run)
        command.add_argument("--rounds", type=_positive, default=5, metavar="N", help=_DEFAULT)
        command.add_argument("--json", type=Path, metavar="FILE", help="write the record")
    for module in (wire, growth, start):
        commands.choices[module.__name__].add_argument("--against", metavar="BUILD")
    for module in (wire, engine, routers):
        command = commands.choices[module.__name__]
        about = f"how many answers at once {_DEFAULT}"
        command.add_argument(
            "--streams", type=_numbers, default="64,256,512", metavar="N,...", help=about
        )
        about = f"the length of answers {_DEFAULT}"
        command.add_argument("--tokens", type=_positive, default=256, metavar="N", help=about)
        module.add_options(command)
    for each in (batch, growth):
        each.add_options(commands.choices[each.__name__])
    args = parser.parse_args()
    # Processes that were started are stopped, however this ends.
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _end)
    args.run(args)


def _end(number: int, _: object) -> None:
    """End at once, but for what has to be ended before: a second Ctrl-C does not break that off."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _numbers(text: str) -> list[int]:
    return [_positive(word) for word in text.split(",")]


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of at least 1")
    return int(text)


if __name__ == "__main__":
    main()
