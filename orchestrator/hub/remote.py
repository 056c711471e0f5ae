"""A hub's listing of a repository's files at one commit. None of them is fetched."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import httpx2
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile

from contract.model_files.hub_cache import MAIN, cache_dir
from orchestrator.errors import UserError

_TIMEOUT_S: Final = 20.0


class RemoteFile(NamedTuple):
    """A file of a repository. `etag` names its content in the cache: of large files it is the
    SHA-256, of small ones git's own hash."""

    path: str
    size_bytes: int
    etag: str
    sha256: str | None = None


class Remote(NamedTuple):
    """A repository as the hub has it."""

    repo: str
    revision: str
    commit: str
    files: tuple[RemoteFile, ...]


def look_up(repo: str, revision: str = MAIN) -> Remote:
    """Ask the hub. Raises `UserError`."""
    api = HfApi()
    with explained(repo, revision):
        info = api.model_info(repo, revision=revision, timeout=_TIMEOUT_S)
        commit = info.sha or revision
        entries = api.list_repo_tree(repo, recursive=True, revision=commit)
        files = tuple(_file(entry) for entry in entries if isinstance(entry, RepoFile))
    return Remote(repo, revision, commit, files)


def _file(entry: RepoFile) -> RemoteFile:
    if entry.lfs is None:
        return RemoteFile(entry.path, entry.size, entry.blob_id)
    return RemoteFile(entry.path, entry.lfs.size, entry.lfs.sha256, entry.lfs.sha256)


@contextmanager
def explained(repo: str, revision: str) -> Iterator[None]:
    """Turn what huggingface_hub raises into a `UserError` with the next step."""
    try:
        yield
    except (HfHubHTTPError, HFValidationError) as error:
        raise _refused(repo, revision, error) from None
    except OfflineModeIsEnabled:
        message = f"{repo} would have to be fetched, and HF_HUB_OFFLINE is set"
        raise UserError(message, "unset it, or give a local directory") from None
    except (httpx2.TransportError, ConnectionError) as error:
        reason = str(error) or type(error).__name__
        raise UserError(
            f"{constants.ENDPOINT} cannot be reached: {reason}",
            "check the network; HTTPS_PROXY names a proxy, `hub.endpoint` or HF_ENDPOINT a mirror",
        ) from None
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise UserError(f"{cache_dir()}: {error}", "HF_HOME names another place") from None
        raise UserError(
            f"the disk of {cache_dir()} is full",
            "make room (`./ew models rm`), or set HF_HOME to a larger disk; what is there is kept",
        ) from None


def _refused(repo: str, revision: str, error: Exception) -> UserError:
    hub, tokens = constants.ENDPOINT, "`hub.token_env`, `hub.token_file` or HF_TOKEN"
    match error:
        case HFValidationError():
            return UserError(f"`{repo}` is no repository id", "one is `Qwen/Qwen2.5-0.5B-Instruct`")
        case GatedRepoError():
            return UserError(
                f"{repo} is gated: its owner wants you to agree to terms first",
                f"agree at {hub}/{repo}, then give your token: {tokens}",
            )
        case RevisionNotFoundError():
            return UserError(
                f"{repo} has no revision `{revision}`",
                "give a branch, a tag or a commit of it; without --revision it is `main`",
            )
        case HfHubHTTPError(response=response):
            return _refused_by_status(repo, response, tokens)
    return UserError(f"{hub}: {error}", "try again in a moment")


def _refused_by_status(repo: str, response: httpx2.Response, tokens: str) -> UserError:
    """Mirrors seldom give more than this; and of those without TLS, huggingface_hub does not see
    what a 401 means."""
    hub, said = constants.ENDPOINT, response.headers.get("X-Error-Message", "")
    match response.status_code:
        case 401 if "credentials" in said:
            return UserError(f"{hub} refused the token", f"correct it: {tokens}")
        case 401 | 403 | 404:
            return UserError(
                f"{hub} has no model {repo} that you may see",
                f"check the spelling; a private one needs a token: {tokens}",
            )
        case 429:
            hint = f"wait a little; with a token more is allowed: {tokens}"
            return UserError(f"{hub} wants fewer requests", hint)
        case status:
            return UserError(f"{hub} failed: HTTP {status}", "try again in a moment")
