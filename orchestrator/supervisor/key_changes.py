"""Changes to the API keys that are asked for over the gateway."""

from __future__ import annotations

from contract.supervision.control import AddKey, Finished, KeyMade, RevokeKey
from orchestrator.config.key_file import KeyFile


def change_keys(request: AddKey | RevokeKey) -> KeyMade | Finished:
    """Make or end a key. Blocks until the disk has it. Raises `UserError`."""
    if isinstance(request, RevokeKey):
        KeyFile().revoke(request.key_id)
        return Finished([])
    made = KeyFile().add(
        request.name,
        request.models,
        request.expires_unix_s,
        metrics=request.metrics,
        admin=request.admin,
        weight=request.weight,
        priority=request.priority,
    )
    return KeyMade(made.record.id, made.text)
