"""The keys of this host, told to the others by a command: they follow at once, whether a gateway
runs here or not."""

from __future__ import annotations

from contract.bus.records.key_board import KeyBoard
from contract.config import Config
from contract.key_sharing.shared_keys import (
    BadSeal,
    SharedKeys,
    SharedSecret,
    names_of,
    read_secret,
)
from contract.key_sharing.source import KeySource, OtherSource
from contract.keys import REVOKED_ELSEWHERE_WITHIN_S, KeyFileError
from contract.paths import keys_path, of_project, shared_keys_path
from contract.process.host_name import host_name
from orchestrator.client.records.redis_access import ask_redis
from orchestrator.config.key_file import unusable
from orchestrator.config.selection import read_config
from orchestrator.errors import UserError
from orchestrator.terminal.speech import say, warn


def publish_change() -> None:
    """Have the other hosts follow a change of the key file, if this one is their source; say so,
    or why they do not yet."""
    try:
        config = read_config()
        if config.keys.source != host_name():
            return
        ask_redis(config, lambda db: KeySource(db, _secret(config), keys_path()).publish())
    except UserError as error:
        warn(f"other hosts do not know of it yet: {error.message}; the gateway tells them later")
    except OtherSource as error:
        warn(str(error))
    except (BadSeal, KeyFileError) as error:
        warn(f"other hosts do not know of it: {error}")
    else:
        say(f"the other hosts follow within {REVOKED_ELSEWHERE_WITHIN_S} s")


def share_keys() -> SharedKeys | None:
    """Publish the key file in place of the keys that are shared; return those. Raises
    `UserError`."""
    config = read_config()
    if config.keys.source != host_name():
        raise UserError(
            f"`keys.source` is not this host, `{host_name()}`", "name it in the configuration first"
        )
    try:
        secret = _secret(config)
        before = ask_redis(config, lambda db: KeySource(db, secret, keys_path()).take_over())
    except KeyFileError as error:
        raise unusable(error) from None
    # It may have followed until now.
    shared_keys_path().unlink(missing_ok=True)
    return before


def names_of_shared_keys(config: Config) -> dict[str, str]:
    """Return the names of keys of other hosts by id, as Redis has them. Raises `UserError`."""
    if config.keys.source in (None, host_name()):
        return {}
    sealed = ask_redis(config, lambda db: KeyBoard(db).read())
    return names_of(sealed) if sealed else {}


def _secret(config: Config) -> SharedSecret:
    return read_secret(of_project(config.keys.secret_file or ""))
