"""Limits of a key as a person gives and reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from contract.keys import KeyRecord
from contract.limits import MOST, KeyLimits
from contract.paths import config_path
from orchestrator.config.key_file import check_group
from orchestrator.errors import UserError
from orchestrator.terminal.speech import printable

_NAMES: Final = KeyLimits.__struct_fields__
_NO_LIMIT: Final = "none"


def with_limits(record: KeyRecord, bounds: Sequence[str], group: str | None) -> KeyRecord:
    """Return the record with other limits, given as `NAME=NUMBER`, and another group, if one is
    given. Raises `UserError`."""
    changes = dict(_read(each) for each in bounds)
    changed = replace(record, limits=replace(record.limits, **changes))
    if group is None:
        return changed
    check_group(group)
    return replace(changed, group=group)


def group_problem(group: str) -> str:
    """Return why a group has no limits: the configuration does not name it; empty if it does, or
    cannot be used."""
    if not group:
        return ""
    # Few keys have one, and reading the file takes a while.
    from contract.config import ConfigError, load_config

    try:
        known = load_config(config_path()).limits.groups
    except ConfigError:
        return ""
    if group in known:
        return ""
    others = f" beside {', '.join(f'`{each}`' for each in sorted(known))}" if known else ""
    return f"no group `{printable(group)}` in `limits.groups`{others}: it holds the key to nothing"


def limit_words(record: KeyRecord) -> list[str]:
    """Return the limits that the record itself sets."""
    given = ((name, getattr(record.limits, name)) for name in _NAMES)
    words = [f"{name}={_NO_LIMIT if n == MOST else n}" for name, n in given if n is not None]
    return [*words, f"group {record.group}"] if record.group else words


def _read(text: str) -> tuple[str, int | None]:
    name, equals, value = text.partition("=")
    if name not in _NAMES or not equals:
        raise UserError(f"no limit `{printable(text)}`", f"NAME=NUMBER, of {', '.join(_NAMES)}")
    if value == _NO_LIMIT:
        return name, MOST
    if value and not (value.isascii() and value.isdigit() and 1 <= int(value) <= MOST):
        raise UserError(
            f"`{name}` is `{printable(value)}`", "a number from 1 on, `none`, or nothing"
        )
    return name, int(value) if value else None
