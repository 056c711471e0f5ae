"""The targets of a lock: a Python on a machine with glibc, and the files that can be used there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Final

import tomllib
from packaging.markers import Marker
from packaging.tags import Tag, compatible_tags, cpython_tags, parse_tag

from contract.engines import Release
from contract.paths import ROOT

#: The name, beside those of wheels, that a source distribution has in a lock.
SDIST: Final = "sdist"
#: Platform tags from before they said their glibc.
_LEGACY: Final = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
#: The first of a Python's patch releases, and one that is never reached.
_PATCHES: Final = ("0", "99")
_NEWEST_GLIBC: Final = 60
_OLDEST_GLIBC: Final = {"x86_64": 5, "aarch64": 17}


@dataclass(frozen=True)
class Target:
    """One Python (`3.12`) on one machine (`aarch64`) with glibc 2.`glibc`."""

    python: str
    machine: str
    glibc: int

    def __str__(self) -> str:
        return f"Python {self.python} on {self.machine}"

    @property
    def with_newest_glibc(self) -> Target:
        return Target(self.python, self.machine, _NEWEST_GLIBC)

    def needs(self, marker: str) -> bool:
        """Return whether a package with this marker (or none) is installed there, at least by
        some patch release of the Python."""
        environments = map(self._environment, _PATCHES)
        return not marker or any(map(Marker(marker).evaluate, environments))

    def can_use(self, tags: str) -> bool:
        """Return whether a wheel with these tags, as in its file name, can be installed there."""
        return tags == SDIST or not self._tags.isdisjoint(parse_tag(tags))

    def _environment(self, patch: str) -> dict[str, str]:
        full = f"{self.python}.{patch}"
        return {
            "implementation_name": "cpython",
            "implementation_version": full,
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": full,
            "python_version": self.python,
            "sys_platform": "linux",
            "extra": "",
        }

    @cached_property
    def _tags(self) -> frozenset[Tag]:
        major, minor = map(int, self.python.split("."))
        interpreter, platforms = f"cp{major}{minor}", list(self._platforms())
        return frozenset(
            [
                *cpython_tags((major, minor), [interpreter], platforms),
                *compatible_tags((major, minor), interpreter, platforms),
            ]
        )

    def _platforms(self) -> Iterator[str]:
        yield f"linux_{self.machine}"
        for minor in range(self.glibc, _OLDEST_GLIBC[self.machine] - 1, -1):
            yield f"manylinux_2_{minor}_{self.machine}"
            if minor in _LEGACY:
                yield f"{_LEGACY[minor]}_{self.machine}"


def targets_of(release: Release) -> list[Target]:
    """Return those of an engine's release."""
    return _targets(release.pythons, release.machines, release.glibc)


def project_targets() -> list[Target]:
    """Return those of ew's own environment, and of the tests, as pyproject.toml declares them."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ew"]
    return _targets(declared["pythons"], declared["machines"], declared["glibc"])


def _targets(pythons: Sequence[str], machines: Sequence[str], glibc: str) -> list[Target]:
    minor = int(glibc.removeprefix("2."))
    return [Target(*each, minor) for each in product(pythons, machines)]
