"""A file that came with another hash than the lock has: what it is, and what to do about it.

Standard library only: the bootstrap needs it before anything is installed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from orchestrator.errors import UserError

_MOST_SHOWN: Final = 3
_HASH: Final = r"(?:sha256[: ])?\s*([0-9a-f]{64})"
#: uv names the package once, then lists what it expected and what it computed.
_OF_UV = re.compile(rf"Hash mismatch for `([^`]+)`(.*?)Computed:\s+{_HASH}", re.DOTALL)
_OF_PIP = re.compile(rf"^\s+(\S+==\S+) from .*?:$(.*?)^\s+Got\s+{_HASH}", re.DOTALL | re.MULTILINE)


class Mismatch(NamedTuple):
    """`package` is a name and version; the hashes are SHA-256 in hexadecimal digits."""

    package: str
    expected: tuple[str, ...]
    got: str

    def error(self, lock: str, places: Sequence[str]) -> UserError:
        """In words. `places` are those, besides the usual index, that the file may be from."""
        expected = f"one of the {len(self.expected)} hashes of {lock}"
        if len(self.expected) <= _MOST_SHOWN:
            expected = "\n           ".join(f"sha256:{digest}" for digest in self.expected)
        return UserError(
            f"a file came for {self.package} that is not the one in {lock}"
            f"\n  expected {expected}\n  got      sha256:{self.got}",
            f"{_suspects(places)}; nothing was installed from it",
        )


def find_mismatch(output: str) -> Mismatch | None:
    """Return what uv or pip said about a hash, if they did."""
    found = _OF_UV.search(output) or _OF_PIP.search(output)
    if found is None:
        return None
    package, expected, got = found.groups()
    return Mismatch(package, tuple(re.findall(r"[0-9a-f]{64}", expected)), got)


def _suspects(places: Sequence[str]) -> str:
    if not places:
        return (
            "the package index serves another file under that name: use another one "
            "(PIP_INDEX_URL), and ask who runs it"
        )
    return (
        f"look for a build of your own in {' and '.join(places)}: remove it there, or run "
        "without these places (pip's and uv's find-links and extra indexes)"
    )
