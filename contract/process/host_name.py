"""This host's name among the hosts that share one Redis."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Collection
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from contract.paths import state_dir

#: Instead of the machine's name: in containers, or for several installations on one machine.
VARIABLE: Final = "EW_HOST_NAME"


def host_name() -> str:
    """Return the name by which other hosts know this one. Every process of it says the same."""
    return os.environ.get(VARIABLE) or socket.gethostname()


def installation() -> str:
    """Return what tells this installation from all others, on this machine or another: the boot of
    the kernel that it runs on, and its state directory."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    return hashlib.sha256(f"{boot}{state_dir().resolve()}".encode()).hexdigest()[:16]


def is_here(hosts: Collection[str]) -> bool:
    """Return whether this host is among these; each is a name, or a pattern such as `gpu-*`. All
    hosts are if none is given."""
    return not hosts or any(fnmatchcase(host_name(), each) for each in hosts)
