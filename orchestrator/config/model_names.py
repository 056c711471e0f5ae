"""The models of the configuration file as it stands, for commands that cannot wait for its check:
that takes longer to import than all the rest of a quick command."""

from __future__ import annotations

from contract.paths import config_path
from contract.process.json_lines import load_json


def configured_models() -> list[str]:
    """Return their ids, whatever else is wrong with the file; none if it cannot be read."""
    try:
        return list(load_json(config_path().read_text(encoding="utf-8"))["models"])
    except (OSError, ValueError, TypeError, LookupError):
        return []
