"""The files of a repository on this host, and the configured models that use it."""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from contract.config import Config, ids_by_name, is_repo_id
from contract.config.recipes import ChosenParsers, parsers_of, recipes_for
from contract.messages import State
from contract.model_files.hub_cache import (
    PARTIAL,
    cache_dir,
    files_of,
    repo_dir,
    repositories,
    revisions_of,
    size_of,
    snapshot_of,
)
from contract.paths import project_dir
from contract.supervision.last_seen import is_supervised
from contract.supervision.routes import ModelRoutes
from orchestrator.errors import UserError
from orchestrator.protocol.status import read_status
from orchestrator.terminal.speech import mebibytes

_MIB: Final = 2**20


class Holding(NamedTuple):
    """A repository in the cache. `partial_bytes` are of files that are not complete yet."""

    repo: str
    directory: Path
    size_bytes: int
    partial_bytes: int
    revisions: dict[str, str]
    files: dict[str, int]
    models: list[str]
    #: By model, or by library where none is configured: the parsers that read what it writes.
    parsers: dict[str, ChosenParsers]
    #: By model: where its requests go beside it.
    routes: dict[str, ModelRoutes]


def repository_of(name: str, config: Config) -> str:
    """The repository that is meant by its id, or by a name of a model. Raises `UserError`."""
    ids = ids_by_name(config.models)
    if name in ids:
        return _of_model(ids[name], config.models[ids[name]].model_path)
    if is_repo_id(name):
        return name
    near = difflib.get_close_matches(name, [*ids, *repositories()], n=1)
    hint = f"did you mean `{near[0]}`?" if near else "a repository is `Qwen/Qwen2.5-0.5B-Instruct`"
    raise UserError(f"`{name}` is neither a model nor a repository", hint)


def _of_model(model_id: str, model_path: str) -> str:
    parts = model_path.split("/")
    if (
        len(parts) >= 2
        and not (project_dir() / model_path).exists()
        and is_repo_id("/".join(parts[:2]))
    ):
        return "/".join(parts[:2])
    raise UserError(
        f"model `{model_id}` is not from a hub: its `model_path` is {model_path}",
        "a local directory is yours: nothing is downloaded of it",
    )


def holding_of(repo: str, config: Config) -> Holding:
    """Return the files of a repository on this host. Raises `UserError` if there are none."""
    directory = repo_dir(repo)
    if not directory.is_dir():
        raise UserError(
            f"nothing of {repo} is in {cache_dir()}", f"`./ew models pull {repo}` downloads it"
        )
    revisions = revisions_of(repo)
    snapshot = snapshot_of(repo, next(iter(revisions), "main"))
    models = {name: each for name, each in config.models.items() if _is_of(each.model_path, repo)}
    partial = (directory / "blobs").glob(f"*{PARTIAL}")
    return Holding(
        repo=repo,
        directory=directory,
        size_bytes=size_of(repo),
        partial_bytes=sum(path.stat().st_size for path in partial),
        revisions=revisions,
        files=dict(files_of(snapshot)) if snapshot else {},
        models=list(models),
        parsers={name: parsers_of(model) for name, model in models.items()}
        or recipes_for(repo)
        or {repo: ChosenParsers()},
        routes={name: routes for name, each in models.items() if (routes := ModelRoutes.of(each))},
    )


def _is_of(model_path: str, repo: str) -> bool:
    return model_path == repo or model_path.startswith(f"{repo}/")


def lines_of(found: Holding) -> Iterator[str]:
    """Yield a summary for people."""
    partial = f", {_size(found.partial_bytes)} of it not complete" if found.partial_bytes else ""
    yield f"{found.repo}: {_size(found.size_bytes)}{partial}"
    yield f"  in        {found.directory}"
    for revision, commit in found.revisions.items():
        yield f"  {revision:8}  {commit}"
    yield f"  models    {', '.join(found.models) or 'none is configured'}"
    for name, chosen in found.parsers.items():
        yield f"  parsers   {_in_words(chosen)}{f' ({name})' if len(found.parsers) > 1 else ''}"
    for name, routes in found.routes.items():
        for words in routes.words():
            yield f"  routes    {words}{f' ({name})' if len(found.models) > 1 else ''}"
    width = max(map(len, found.files), default=0)
    for path, size in found.files.items():
        yield f"  {path:{width}}  {_size(size):>9}"
    if found.partial_bytes or not found.revisions:
        yield f"  not complete: `./ew models pull {found.repo}` goes on"


def _in_words(chosen: ChosenParsers) -> str:
    """How a person reads it."""
    said = [
        f"{kind}: {name or 'none'}, {'as its entry says' if is_of_entry else 'by its name'}"
        for kind, name, is_of_entry in (
            ("tool calls", chosen.tool, chosen.tool_of_entry),
            ("reasoning", chosen.reasoning, chosen.reasoning_of_entry),
        )
        if name or is_of_entry
    ]
    return "; ".join(said) or "none is known for this checkpoint"


def running_models(models: Sequence[str]) -> list[str]:
    """Those of the models that run."""
    status = read_status()
    if not is_supervised(status):
        return []
    states = {model.id: model.state for model in status.models}
    return [name for name in models if states.get(name, State.STOPPED) is not State.STOPPED]


def remove(found: Holding) -> None:
    """Delete a repository from the cache. Raises `UserError`."""
    # It knows what of it other repositories have in common with it, which stays.
    from huggingface_hub import scan_cache_dir

    cache = scan_cache_dir(cache_dir())
    repos = [each for each in cache.repos if each.repo_path == found.directory]
    commits = [revision.commit_hash for repo in repos for revision in repo.revisions]
    try:
        cache.delete_revisions(*commits).execute()
        shutil.rmtree(found.directory, ignore_errors=not found.directory.exists())
        shutil.rmtree(cache_dir() / ".locks" / found.directory.name, ignore_errors=True)
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}", "who owns it?") from None


def _size(count: int) -> str:
    return mebibytes(count / _MIB)
