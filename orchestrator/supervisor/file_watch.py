"""Whether the configuration file says something else than what runs, looked at when it changes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from contract.config import ConfigError, load_config
from contract.paths import config_path
from contract.supervision.routes import ModelRoutes
from contract.supervision.status import ConfigStatus
from orchestrator.config.changes import changes
from orchestrator.protocol.specs import UnitSpec
from orchestrator.supervisor.restarting import assume

_Seen: TypeAlias = tuple[object, ...]


class FileWatch:
    """A look costs one `stat`, as long as neither the file nor what runs has changed. `routes` are
    those of each model that has some, by the last file that could be used, as gateways go by it."""

    def __init__(self) -> None:
        self._seen: _Seen = ()
        self._status = ConfigStatus()
        self.routes: dict[str, ModelRoutes] = {}

    def look(
        self, specs: Iterable[UnitSpec], redis_url: str | None, variables: dict[str, str]
    ) -> ConfigStatus:
        """Return what waits to be applied."""
        units, path = list(specs), config_path()
        seen = (_stamp(path), units, redis_url, variables)
        if seen != self._seen:
            self._seen = seen
            self._status = self._compare(path, units, redis_url, variables)
        return self._status

    def _compare(
        self, path: Path, units: list[UnitSpec], redis_url: str | None, variables: dict[str, str]
    ) -> ConfigStatus:
        assume(variables)
        try:
            config = load_config(path)
        except ConfigError as error:
            return ConfigStatus(problem=str(error).partition("\n")[0])
        routes = {name: ModelRoutes.of(model) for name, model in config.models.items()}
        self.routes = {name: each for name, each in routes.items() if each is not None}
        found = changes(units, redis_url, config)
        return ConfigStatus(waiting=[each.key for each in found if each.needs])


def _stamp(path: Path) -> object:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ctime_ns, status.st_ino, status.st_size
