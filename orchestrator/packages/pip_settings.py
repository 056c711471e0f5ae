"""The user's pip settings in uv's words: mirrors and certificates are mostly set up for pip alone.

Standard library only: the bootstrap needs it before anything is installed.
"""

from __future__ import annotations

import configparser
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from orchestrator.errors import UserError

#: Later ones win, as in pip.
_SECTIONS: Final = ("global", "install")
_NO_CONFIGURATION: Final = os.devnull
#: uv's settings for where packages come from besides the one index.
_FURTHER_PLACES: Final = ("UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")
_INDEXES: Final = ("UV_DEFAULT_INDEX", "UV_INDEX_URL")


class UvSettings(NamedTuple):
    """Variables and options to add to a uv process."""

    variables: dict[str, str]
    arguments: list[str]


def uv_settings(environ: Mapping[str, str] = os.environ) -> UvSettings:
    """Make uv use the indexes, wheels, certificates and timeouts that pip would use. Settings
    of the user for uv itself stay as they are. Raises `UserError` for a broken pip.conf."""
    pip = pip_settings(environ)
    variables = _indexes(pip) | _connections(pip)
    if {"UV_INDEX_URL", "UV_DEFAULT_INDEX"} & environ.keys():
        variables.pop("UV_DEFAULT_INDEX", None)
    if "UV_EXTRA_INDEX_URL" in environ:
        variables.pop("UV_INDEX", None)
    arguments = ["--no-index"] if _is_true(pip.get("no-index", "")) else []
    return UvSettings(
        {name: value for name, value in variables.items() if name not in environ}, arguments
    )


def registry_alone(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return an environment in which uv asks one index only: the registry, or the mirror that
    the user has set for it. Folders of wheels, further indexes and configuration files are left
    out. Raises `UserError` if the index is a folder itself."""
    variables = {**environ, **uv_settings(environ).variables}
    for name in (*_FURTHER_PLACES, "UV_CONFIG_FILE", "UV_NO_INDEX"):
        variables.pop(name, None)
    for name in _INDEXES:
        if not variables.get(name, "https:").startswith(("https:", "http:")):
            raise UserError(
                f"the package index is a folder: {variables[name]}",
                "unset PIP_INDEX_URL, UV_DEFAULT_INDEX and UV_INDEX_URL, or name a mirror",
            )
    pip = {name for name in variables if name.startswith("PIP_")}
    kept = {name: value for name, value in variables.items() if name not in pip}
    return {**kept, "PIP_CONFIG_FILE": _NO_CONFIGURATION, "UV_NO_CONFIG": "1"}


def further_places(environ: Mapping[str, str]) -> list[str]:
    """Return where uv looks besides the one index, in an environment that is meant for uv;
    without the passwords of addresses."""
    places = [place for name in _FURTHER_PLACES for place in _split(environ.get(name, ""))]
    return [re.sub(r"//[^/@]*@", "//", place) for place in places]


def _split(places: str) -> list[str]:
    return places.replace(",", " ").split()


def pip_settings(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """pip's settings by their long names, from its files and its variables."""
    settings: dict[str, str] = {}
    for path in _files(environ):
        settings |= _read(path)
    for name, value in environ.items():
        if name.startswith("PIP_") and name != "PIP_CONFIG_FILE" and value:
            settings[name[4:].lower().replace("_", "-")] = value
    return settings


def _indexes(pip: Mapping[str, str]) -> dict[str, str]:
    variables = {}
    if "index-url" in pip:
        variables["UV_DEFAULT_INDEX"] = pip["index-url"]
    if "extra-index-url" in pip:
        variables["UV_INDEX"] = " ".join(pip["extra-index-url"].split())
        # As pip does: the best version of all indexes. Hashes say which file it must be.
        variables["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    if "find-links" in pip:
        places = map(os.path.expanduser, pip["find-links"].split())
        variables["UV_FIND_LINKS"] = ",".join(places)
    return variables


def _connections(pip: Mapping[str, str]) -> dict[str, str]:
    variables = {}
    for name, meaning in (
        ("cert", "SSL_CERT_FILE"),
        ("client-cert", "SSL_CLIENT_CERT"),
        ("proxy", "ALL_PROXY"),
        ("retries", "UV_HTTP_RETRIES"),
        ("default-timeout", "UV_HTTP_TIMEOUT"),
        ("timeout", "UV_HTTP_TIMEOUT"),
    ):
        if name in pip:
            variables[meaning] = pip[name]
    if "trusted-host" in pip:
        variables["UV_INSECURE_HOST"] = " ".join(pip["trusted-host"].split())
    return variables


def _files(environ: Mapping[str, str]) -> Iterator[Path]:
    chosen = environ.get("PIP_CONFIG_FILE", "")
    if chosen == _NO_CONFIGURATION:
        return
    home = Path(environ.get("HOME", "/nonexistent"))
    for directory in reversed(environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(os.pathsep)):
        yield Path(directory) / "pip/pip.conf"
    yield Path("/etc/pip.conf")
    if not chosen:
        yield home / ".pip/pip.conf"
        yield Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip/pip.conf"
    yield Path(sys.base_prefix) / "pip.conf"
    if chosen:
        yield Path(chosen)


def _read(path: Path) -> dict[str, str]:
    parser = configparser.RawConfigParser()
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} is not a pip configuration: {error}", "mend or remove it"
        ) from None
    settings: dict[str, str] = {}
    for section in filter(parser.has_section, _SECTIONS):
        settings |= {name.replace("_", "-"): value for name, value in parser.items(section)}
    return settings


def _is_true(value: str) -> bool:
    return value.strip().lower() in ("1", "true", "yes", "on", "y", "t")
