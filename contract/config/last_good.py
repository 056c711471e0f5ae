"""The configuration as it last could be used. A process that is started again while the file is
half saved, or wrong, starts with that."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from contract.config.loading import ConfigError, load_config
from contract.config.schema import Config
from contract.paths import state_dir
from contract.process.private_files import replace_privately


class Loaded(NamedTuple):
    """A configuration. `problem`: what is wrong with the file, if this is the last good one."""

    config: Config
    problem: str = ""


def load_or_recall(path: Path) -> Loaded:
    """Return the configuration in a file, or the last one that was. Raises `ConfigError` if
    there was none that can be used."""
    try:
        return Loaded(load_and_keep(path))
    except ConfigError as error:
        try:
            return Loaded(load_config(_kept(path)), str(error))
        except ConfigError:
            raise error from None


def load_and_keep(path: Path) -> Config:
    """Return the configuration in a file, which is the last good one from now on. Raises
    `ConfigError`."""
    config = load_config(path)
    _keep(path)
    return config


def _kept(path: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:8]
    return state_dir() / f"last-good-config-{digest}.json"


def _keep(path: Path) -> None:
    """Where that is not possible, there is none to come back to; nothing else fails by it."""
    kept = _kept(path)
    try:
        content = path.read_bytes()
        if kept.exists() and kept.read_bytes() == content:
            return
        replace_privately(kept, content)
    except OSError:
        return
