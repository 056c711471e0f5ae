"""This host's name among the hosts that share one Redis."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection
from fnmatch import fnmatchcase
from typing import Final

#: Instead of the machine's name: in containers, or for several installations on one machine.
VARIABLE: Final = "EW_HOST_NAME"


def host_name() -> str:
    """Return the name by which other hosts know this one. Every process of it says the same."""
    return os.environ.get(VARIABLE) or socket.gethostname()


def is_here(hosts: Collection[str]) -> bool:
    """Return whether this host is among these; each is a name, or a pattern such as `gpu-*`. All
    hosts are if none is given."""
    return not hosts or any(fnmatchcase(host_name(), each) for each in hosts)
