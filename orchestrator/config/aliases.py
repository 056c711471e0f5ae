"""Other names of models, as commands take them."""

from __future__ import annotations

import difflib

from orchestrator.config.model_names import configured_models
from orchestrator.errors import UserError
from orchestrator.protocol.status import models_as_seen


def known_id(name: str) -> str:
    """Return the id of the model that has this name. Raises `UserError` if none has that runs or
    is configured."""
    found, configured = id_of(name), configured_models()
    known = {*configured, *(each.id for each in models_as_seen())}
    if found in known:
        return found
    message = f"no model `{name}`" if configured else f"no model `{name}` runs"
    near = difflib.get_close_matches(name, known, n=1)
    listing = ", ".join(f"`{each}`" for each in sorted(known)) or "none"
    raise UserError(message, f"did you mean `{near[0]}`?" if near else f"there are: {listing}")


def id_of(name: str) -> str:
    """Return the id of the model that has this name, as it runs or is configured; else the name
    itself, also if the configuration cannot be read."""
    if name in configured_models() or any(each.id == name for each in models_as_seen()):
        return name
    # Takes longer than all the rest of a command that needs it only for an alias.
    from contract.config import ConfigError, ids_by_name, load_config
    from contract.paths import config_path

    try:
        return ids_by_name(load_config(config_path()).models).get(name, name)
    except ConfigError:
        return name
