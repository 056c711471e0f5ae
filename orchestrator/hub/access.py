"""How a hub is reached: its address and the token, as the configuration says."""

from __future__ import annotations

import os
from pathlib import Path

from contract.config import HubConfig
from contract.paths import project_dir
from orchestrator.errors import UserError


def hub_variables(hub: HubConfig) -> dict[str, str]:
    """Return the variables that tell Hugging Face's libraries. Raises `UserError` if there is no
    token where the configuration says."""
    variables = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": _token(hub)}
    return {name: value for name, value in variables.items() if value}


def prepare(hub: HubConfig) -> None:
    """Set this process up for `remote` and `download`. Raises `UserError`."""
    os.environ.update(hub_variables(hub))
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["HF_HUB_VERBOSITY"] = "critical"


def _token(hub: HubConfig) -> str | None:
    if hub.token_env is not None:
        token = os.environ.get(hub.token_env, "").strip()
        if not token:
            raise UserError(
                f"`hub.token_env`: the variable {hub.token_env} is not set",
                f"`export {hub.token_env}=hf_...`, or name another in the configuration",
            )
        return token
    if hub.token_file is not None:
        return _read(project_dir() / Path(hub.token_file).expanduser())
    return None


def _read(path: Path) -> str:
    try:
        token = path.read_text().strip()
    except OSError as error:
        raise UserError(
            f"`hub.token_file`: {path}: {error.strerror}",
            "write the token (`hf_...`) into that file, and `chmod 600` it",
        ) from None
    if not token:
        raise UserError(f"`hub.token_file`: {path} is empty", "write the token (`hf_...`) into it")
    return token
