"""Where a checkpoint lies."""

from __future__ import annotations

from pathlib import Path

from contract.config import is_repo_id


def local_directory(model_path: str) -> Path:
    """Return where the model lies; downloads it if it is a repository's id and not here yet.
    Blocks."""
    path = Path(model_path)
    if path.is_dir() or not is_repo_id(model_path):
        return path
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(model_path, ignore_patterns=["original/*", "*.pth"]))
