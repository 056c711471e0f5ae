"""The key of a command that asks the gateway for as long as it runs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from orchestrator.client.gateway_access import KEY_VARIABLE, blaming_variable, given_key
from orchestrator.config.key_file import KeyFile

_OWN_KEY: Final = (
    f"`unset {KEY_VARIABLE}` and {{}} makes a key of its own; `./ew keys list` shows the others"
)
_KEY_LASTS_S: Final = 86_400.0


@contextmanager
def own_key(models: Sequence[str], command: str) -> Iterator[str]:
    """The user's key, or one of the command's own for these models, which is removed after it.
    Raises `UserError` for a key of the user's that the gateway refuses."""
    given = given_key()
    if given is not None:
        with blaming_variable(given, _OWN_KEY.format(command)):
            yield given
        return
    keys = KeyFile()
    now, name = time.time(), f"ew {command}"
    keys.forget(lambda record: record.name == name and not record.is_live(now))
    own = keys.add(name, tuple(models), now + _KEY_LASTS_S)
    try:
        yield own.text
    finally:
        keys.forget(lambda record: record.id == own.record.id)
