"""`ew models pull`: look the repository up, see that there is room, fetch what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from contract.config import HubConfig
from orchestrator.hub.access import prepare
from orchestrator.hub.selection import Selection, select
from orchestrator.terminal.speech import mebibytes, say

_MIB: Final = 2**20


def pull_repository(
    repo: str, revision: str, hub: HubConfig, include: Sequence[str] = (), *, everything: bool
) -> Path:
    """Fetch a repository's files for engines. Returns their directory. Raises `UserError`."""
    prepare(hub)
    # They read the environment when they are imported.
    from orchestrator.hub.bars import watcher
    from orchestrator.hub.download import Download
    from orchestrator.hub.remote import look_up

    remote = look_up(repo, revision)
    sizes = {file.path: file.size_bytes for file in remote.files}
    chosen = Selection(sorted(sizes), []) if everything else select(sizes, include)
    download = Download(remote, chosen.wanted)
    if chosen.left_out:
        left_out = _size(sum(sizes[path] for path in chosen.left_out))
        say(f"left out: {len(chosen.left_out)} files that engines do not read, {left_out}")
    missing, total = _size(download.missing_bytes), _size(download.total_bytes)
    say(f"{repo} at {remote.commit[:12]}: {missing} of {total} to fetch")
    download.require_room()
    try:
        with watcher(download.total_bytes, download.missing_bytes) as shown:
            return download.run(shown)
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from here")
        raise


def _size(count: int) -> str:
    return mebibytes(count / _MIB)
