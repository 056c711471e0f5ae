"""Reading deploy/config.json. A mistake in it is one line: where, which key, what it must be."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from contract.config.checks.contradictions import contradictions
from contract.config.schema import Config
from contract.config.variables import overrides_some, overriding_variable, unusable_variables
from contract.config.wording import Mistake, mistakes
from contract.process.json_lines import DuplicateKey, line_of, load_json, plain_json


class ConfigError(Exception):
    """The configuration cannot be used; the message names file, line and key of each problem.
    `keys` is the path of the first key that is wrong, empty if it is none."""

    def __init__(self, message: str, keys: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.keys = tuple(keys)


class Source:
    """A configuration file as it was read: it knows where each key stands."""

    def __init__(self, path: Path) -> None:
        """Raises `ConfigError` if the file cannot be read or is no JSON object."""
        self.path = path
        try:
            content = _content(path)
            self.revision = revision_of(content)
            self.text = plain_json(content.decode())
            self.data = load_json(self.text)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from None
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            raise ConfigError(f"{path}:{line}: not UTF-8 text") from None
        except DuplicateKey as error:
            raise ConfigError(f"{path}:{error.line}: `{error.key}` is given twice") from None
        except json.JSONDecodeError as error:
            raise ConfigError(f"{path}:{error.lineno}: not valid JSON: {_plainly(error)}") from None
        except RecursionError:
            raise ConfigError(f"{path}: not valid JSON: it is nested too deep") from None
        if not isinstance(self.data, dict):
            raise ConfigError(f"{path}:1: expected an object, as in {{...}}")

    def place(self, keys: list[str], *, is_missing: bool = False) -> str:
        """Return the file and line of a key, or the variable that gives it."""
        variable = overriding_variable(self.data, keys, is_missing=is_missing)
        return variable or f"{self.path}:{line_of(self.text, keys)}"

    def line(self, mistake: Mistake) -> str:
        """One line about one mistake."""
        where = self.place(mistake.keys, is_missing=mistake.is_missing)
        return f"{where}: {mistake.message}"


def _content(path: Path) -> bytes:
    """Return what a file holds. Raises `OSError`; of a named pipe, too: whoever opens one stands
    still until it has a writer. A shell's own (`<(...)`, in /dev) has one."""
    if path.is_fifo() and not path.is_relative_to("/dev"):
        raise OSError(errno.EINVAL, "a pipe, and no file", str(path))
    return path.read_bytes()


def revision_of(content: bytes) -> str:
    """Return the name of what a configuration file holds: another for any other content."""
    return hashlib.sha256(content).hexdigest()[:16]


def load_config(path: Path) -> Config:
    """Read and check a configuration file. Raises `ConfigError`."""
    return read_source(path)[0]


def read_source(path: Path) -> tuple[Config, Source]:
    """Return the configuration, and the file that it came from. Raises `ConfigError`."""
    source = Source(path)
    problems = list(unusable_variables())
    if problems:
        raise ConfigError("\n".join(problems))
    try:
        config = _checked(source.data)
    except ValidationError as error:
        raise _refused(source, mistakes(error)) from None
    except ValueError as error:
        raise ConfigError(f"EW_* variables: {error}") from None
    found = list(contradictions(config))
    if found:
        raise _refused(source, found)
    return config, source


def _checked(data: dict[str, Any]) -> Config:
    if not overrides_some():
        return Config(**data)
    from contract.config.overridden import read_overridden

    return read_overridden(data)


def _refused(source: Source, found: list[Mistake]) -> ConfigError:
    lines = "\n".join(dict.fromkeys(map(source.line, found)))
    return ConfigError(lines, found[0].keys if found else ())


def _plainly(error: Any) -> str:
    """Return what the parser expected, without its habit of a capital letter amid a line."""
    return f"{error.msg[:1].lower()}{error.msg[1:]} (column {error.colno})"
