"""The settings of a gateway process, as it is told them at its start."""

from __future__ import annotations

import multiprocessing
import os
import secrets
from pathlib import Path
from typing import Final, NamedTuple

from contract.config import Config, load_or_recall
from contract.paths import config_path, keys_path

#: Shared by the processes of one gateway: their names begin with it.
INSTANCE_VARIABLE: Final = "EW_GATEWAY_INSTANCE"


class ProcessSettings(NamedTuple):
    """The settings of one gateway process."""

    config: Config
    config_path: Path
    keys_path: Path
    redis_url: str
    instance: str
    process_index: int
    #: The fault of the file, if `config` is its last content that could be used.
    config_problem: str = ""

    @property
    def log_name(self) -> str:
        """How the process calls itself in logs."""
        return f"gateway[{self.process_index}]"

    @property
    def state_dir(self) -> Path:
        """Where the key file is, and what else this host keeps."""
        return self.keys_path.parent

    @classmethod
    def from_environment(cls) -> ProcessSettings:
        """Raises `ConfigError`, `KeyError`."""
        config, problem = load_or_recall(config_path())
        return cls(
            config=config,
            config_problem=problem,
            config_path=config_path(),
            keys_path=keys_path(),
            redis_url=os.environ["EW_REDIS_URL"],
            instance=os.environ.get(INSTANCE_VARIABLE) or secrets.token_hex(4),
            process_index=_process_index(),
        )


def _process_index() -> int:
    """Which of the gateway's processes this is: 0, or uvicorn's count of those it started."""
    _, _, count = multiprocessing.current_process().name.rpartition("-")
    return int(count) - 1 if count.isdigit() else 0
