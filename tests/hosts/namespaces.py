"""Hosts with networks of their own: namespaces of Linux, and a cable from each to Valkey's.

It needs root and `ip`. Where the kernel has no netem, packets are lost by nftables.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.running_ew import ROOT, Ew

_CLONE_NEWNET: Final = 0x4000_0000
_NAMED: Final = Path("/run/netns")


def run(*command: str) -> str:
    """Return what a command prints. Raises `CalledProcessError`, or `OSError`."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout


def why_not() -> str:
    """Return why there can be no namespaces here; empty if there can."""
    try:
        with networks("try") as (name,):
            run("ip", "-n", name, "link", "add", "name", "one", "type", "veth")
    except OSError as error:
        return f"`ip` cannot be run (Debian: iproute2): {error}"
    except subprocess.CalledProcessError as error:
        return f"no network namespaces can be made here: {error.stderr.strip()}"
    return ""


class Cable:
    """The link between a host and Valkey's network: `server` is Valkey's address on it."""

    def __init__(self, host: str, middle: str, number: int) -> None:
        self.host = host
        self.server = f"10.213.{number}.1"
        self._middle, self._end = middle, f"to{number}"
        made = ("type", "veth", "peer", "name", "net0", "netns", host)
        run("ip", "-n", middle, "link", "add", "name", self._end, *made)
        for name, end, last in ((middle, self._end, 1), (host, "net0", 2)):
            run("ip", "-n", name, "addr", "add", f"10.213.{number}.{last}/24", "dev", end)
            run("ip", "-n", name, "link", "set", end, "up")

    def pull(self) -> None:
        """Neither end hears of the other, nor that it does not."""
        run("ip", "-n", self._middle, "link", "set", self._end, "down")

    def plug_in(self) -> None:
        run("ip", "-n", self._middle, "link", "set", self._end, "up")

    def lose(self, percent: int) -> None:
        """Lose that share of the packets, in each direction."""
        self._nft("add table inet lossy")
        for hook in ("input", "output"):
            chain = f"add chain inet lossy {hook} {{ type filter hook {hook} priority 0; }}"
            self._nft(chain)
            which = f"{hook} {hook[0]}ifname net0"
            share = f"numgen random mod 100 < {percent}"
            self._nft(f"add rule inet lossy {which} {share} counter drop")

    def lost(self) -> int:
        """Return how many packets have been lost so."""
        words = self._nft("list table inet lossy").split()
        return sum(int(words[at + 1]) for at, word in enumerate(words) if word == "packets")

    def lose_none(self) -> None:
        self._nft("delete table inet lossy")

    def _nft(self, words: str) -> str:
        return run("ip", "netns", "exec", self.host, "nft", words)


class NetworkedEw(Ew):
    """An installation whose processes have the network of a namespace."""

    namespace = ""

    def run(self, *arguments: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["ip", "netns", "exec", self.namespace, str(ROOT / "ew"), *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )


def enter(namespace: str) -> None:
    """Give the calling thread the network of a namespace, for the sockets that it opens."""
    libc: Any = ctypes.CDLL(None, use_errno=True)
    with (_NAMED / namespace).open() as file:
        if libc.setns(file.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns to {namespace}")


@contextmanager
def networks(*names: str) -> Iterator[list[str]]:
    """Yield namespaces by these names, with a loopback each; in the end they are gone."""
    made = [f"ew-{os.getpid()}-{name}" for name in names]
    try:
        for name in made:
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        yield made
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
