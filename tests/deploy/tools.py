"""Programs that try the files of deploy/, in an environment of their own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import pytest

from contract.paths import ROOT
from tests.clients.environments import CannotInstall, python

DEPLOY: Final = ROOT / "deploy"
_LOCK: Final = Path(__file__).with_name("tools.lock")


def tool(name: str) -> Path:
    """A program of tools.lock. Skips the test where there is no network to install it."""
    try:
        return python("tools", _LOCK).with_name(name)
    except CannotInstall as error:
        pytest.skip(str(error))


def of_debian(name: str) -> Path:
    """A program that Debian's package of the same name has. Skips the test where it is not."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"`apt install {name}` is needed")
    return Path(found)
