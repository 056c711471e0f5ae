"""Other names of models, as commands take them."""

from __future__ import annotations

from orchestrator.configured import configured_models
from orchestrator.status import read_status


def id_of(name: str) -> str:
    """The id of the model that has this name, as it runs or is configured; else the name itself,
    also if the configuration cannot be read."""
    if name in configured_models() or any(each.id == name for each in read_status().models):
        return name
    # Takes longer than all the rest of a command that needs it only for an alias.
    from contract.config import ConfigError, ids_by_name, load_config
    from contract.paths import config_path

    try:
        return ids_by_name(load_config(config_path()).models).get(name, name)
    except ConfigError:
        return name
