"""Whether the configuration file says something else than what runs, looked at when it changes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from contract.config import ConfigError, load_config
from contract.paths import config_path
from contract.supervision.status import ConfigStatus
from orchestrator.config.changes import changes
from orchestrator.protocol.specs import UnitSpec
from orchestrator.supervisor.restarting import assume

_Seen: TypeAlias = tuple[object, ...]


class FileWatch:
    """A look costs one `stat`, as long as neither the file nor what runs has changed."""

    def __init__(self) -> None:
        self._seen: _Seen = ()
        self._status = ConfigStatus()

    def look(
        self, specs: Iterable[UnitSpec], redis_url: str | None, variables: dict[str, str]
    ) -> ConfigStatus:
        """Return what waits to be applied."""
        units, path = list(specs), config_path()
        seen = (_stamp(path), units, redis_url, variables)
        if seen != self._seen:
            self._seen = seen
            self._status = _compare(path, units, redis_url, variables)
        return self._status


def _compare(
    path: Path, units: list[UnitSpec], redis_url: str | None, variables: dict[str, str]
) -> ConfigStatus:
    assume(variables)
    try:
        found = changes(units, redis_url, load_config(path))
    except ConfigError as error:
        return ConfigStatus(problem=str(error).partition("\n")[0])
    return ConfigStatus(waiting=[each.key for each in found if each.needs])


def _stamp(path: Path) -> object:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ctime_ns, status.st_ino, status.st_size
