"""Additions to deploy/config.json that ew makes itself."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from contract.config import Config, ConfigError, ids_by_name, is_repo_id
from contract.config.loading import Source, read_source, revision_of
from contract.paths import project_dir
from contract.process.json_lines import key_span, plain_json, value_span, without_comments
from orchestrator.errors import UserError
from orchestrator.system.files import put_in_place


def add_model(path: Path, config: Config, model_path: str) -> tuple[str, bool]:
    """See that a model is configured. Returns its id, and whether it had to be added.

    `model_path` is a directory, a Hugging Face repository, or the id of a model that is there.
    Raises `UserError` if it is none of them.
    """
    ids = ids_by_name(config.models)
    if model_path in ids:
        return ids[model_path], False
    location = _location(model_path)
    for model_id, model in config.models.items():
        if model.model_path == location:
            return model_id, False
    model_id = _free_id(location, ids)
    entry: dict[str, Any] = {"engine": "vllm", "model_path": location}
    if not (project_dir() / location).is_dir():
        entry["aliases"] = [location]
    set_model(path, model_id, entry)
    return model_id, True


def set_model(
    path: Path,
    model_id: str,
    settings: Mapping[str, Any],
    *,
    revision: str | None = None,
    is_trial: bool = False,
) -> tuple[Config, Source]:
    """Give a model, which may be new, these settings; None takes one out, and it keeps those that
    it has beside them. Comments, layout, mode, and a link to the file stay. Returns the
    configuration with them, and its text; with `is_trial` the file stays as it was.

    Raises `UserError`, with the file as it was, if it would not be valid, or has another revision
    than is given.
    """
    file = path.resolve()
    scratch = file.with_name(f".{file.name}.new")
    try:
        content = file.read_bytes()
        _require_revision(content, path, revision)
        scratch.write_bytes(with_model(content.decode(), model_id, settings).encode())
        shutil.copymode(file, scratch)
        config, source = _valid(scratch, path)
        if not is_trial:
            _require_revision(file.read_bytes(), path, revision)
            put_in_place(scratch, file)
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror}"
        raise UserError(message, "change it where it is written, on its host") from None
    finally:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)
    return config, source


def _require_revision(content: bytes, path: Path, revision: str | None) -> None:
    if revision is not None and revision_of(content) != revision:
        message = f"{path} has been changed since it was read"
        raise UserError(message, "read it again, and make the change anew", "revision")


def _valid(scratch: Path, path: Path) -> tuple[Config, Source]:
    """Return the configuration that is to stand at `path`. Raises `UserError`."""
    try:
        config, source = read_source(scratch)
    except ConfigError as error:
        said = str(error).replace(str(scratch), str(path))
        message = "the configuration would not be valid any more"
        raise UserError(message, said, ".".join(error.keys)) from None
    source.path = path
    return config, source


def _location(model_path: str) -> str:
    """Return a directory as the configuration names it: relative to the project where that
    works."""
    candidates = (Path(model_path).expanduser(), project_dir() / model_path)
    directory = next((path for path in candidates if path.is_dir()), None)
    if directory is None:
        if is_repo_id(model_path):
            return model_path
        raise UserError(
            f"`{model_path}` is neither a directory nor a Hugging Face repository",
            "a repository is named as in `Qwen/Qwen2.5-0.5B-Instruct`",
        )
    return as_configured(directory.absolute())


def as_configured(path: Path) -> str:
    """Return a path in full, as the configuration should have it: relative to the project if
    inside."""
    project = project_dir()
    return str(path.relative_to(project) if path.is_relative_to(project) else path)


def _free_id(location: str, taken: Collection[str]) -> str:
    """`Qwen/Qwen2.5-0.5B-Instruct` is asked for as `qwen2.5-0.5b-instruct`."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", Path(location).name.lower()).strip("._-")[:80] or "model"
    candidates = [plain, *(f"{plain}-{number}" for number in range(2, len(taken) + 3))]
    return next(name for name in candidates if name not in taken)


def with_model(text: str, model_id: str, settings: Mapping[str, Any]) -> str:
    """Return the text of a configuration in which a model has these settings, and nothing else
    changed."""
    given = {key: value for key, value in settings.items() if value is not None}
    if value_span(plain_json(text), ("models",)) is None:
        return _with_member(text, (), "models", {model_id: given})
    if value_span(plain_json(text), ("models", model_id)) is None:
        return _with_member(text, ("models",), model_id, given)
    for key, value in settings.items():
        if value is None:
            text = _without_member(text, ("models", model_id, key))
        else:
            text = _with_setting(text, ("models", model_id), key, value)
    return text


def _with_setting(text: str, path: Sequence[str], key: str, value: Any) -> str:
    """Return the text with this value for a key of the object at a path, which may have it
    already."""
    span = value_span(plain_json(text), (*path, key))
    if span is None:
        return _with_member(text, path, key, value)
    return f"{text[: span[0]]}{json.dumps(value)}{text[span[1] :]}"


def _with_member(text: str, path: Sequence[str], key: str, value: Any) -> str:
    """Return the text with one more member at the end of the object at a path."""
    span = value_span(plain_json(text), path)
    assert span is not None  # noqa: S101 - its callers have looked
    start, end = span[0] + 1, span[1] - 1
    code = plain_json(text)[start:end].rstrip()
    comma_at = start + len(code)
    place = start + len(text[start:end].rstrip())
    has_comma = "," in without_comments(text)[comma_at:end]
    comma = "," if code.strip() and not has_comma else ""
    before = text[:comma_at] + comma + text[comma_at:place]
    member = f"{json.dumps(key)}: "
    newline = "\r\n" if "\r\n" in text else "\n"
    stays_in_line = code.strip() and "\n" not in text[start:end] and not isinstance(value, Mapping)
    if "\n" not in text or stays_in_line:
        gap = " " if code.strip() else ""
        return f"{before}{gap}{member}{json.dumps(value)}{text[place:]}"
    outer = _indent(text, start - 1)
    unit = _unit(text)
    lines = (member + json.dumps(value, indent=unit)).splitlines()
    new = "".join(f"{newline}{outer}{unit}{line}" for line in lines) + ("," if has_comma else "")
    rest = text[place:]
    if not re.match(r"\s*\n", rest):
        rest = f"{newline}{outer}{rest.lstrip()}"
    return before + new + rest


def _without_member(text: str, path: Sequence[str]) -> str:
    """Return the text without the member at a path, if it is there, and without the comma that it
    needed. Comments stay."""
    plain = plain_json(text)
    key, value = key_span(plain, path), value_span(plain, path)
    if key is None or value is None:
        return text
    start, end = key[0], value[1]
    code = without_comments(text)
    if comma := re.match(r"\s*,", code[end:]):
        text = text[: end + comma.end() - 1] + " " + text[end + comma.end() :]
    elif comma := re.search(r",\s*$", code[:start]):
        text = text[: comma.start()] + text[comma.start() + 1 :]
        start, end = start - 1, end - 1
    before, after = text[:start], text[end:].lstrip(" ")
    line = before[before.rfind("\n") + 1 :]
    if not line.strip() and (rest := re.match(r"\r?\n", after)):
        return before[: len(before) - len(line)] + after[rest.end() :]
    return before + after


def _indent(text: str, place: int) -> str:
    """Return the white space that the line around a place begins with."""
    line = text[text.rfind("\n", 0, place) + 1 :]
    return line[: len(line) - len(line.lstrip(" \t"))]


def _unit(text: str) -> str:
    """Return what the file indents one level by."""
    found = re.search(r"^([ \t]+)\S", without_comments(text), re.MULTILINE)
    return found[1] if found else "  "
