"""The outline of a repository: its configuration, and of its weights the headers, each in a file
that is as long as the real one and takes no room. Enough to say what the model needs of a GPU."""

from __future__ import annotations

import json
import shutil
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

from contract.config import HubConfig
from contract.model_files.hub_cache import MAIN
from contract.paths import state_dir
from orchestrator.hub.access import prepare
from orchestrator.hub.selection import select

if TYPE_CHECKING:
    from orchestrator.hub.remote import Remote, RemoteFile

_AT_ONCE: Final = 8
_WEIGHTS: Final = (".safetensors", ".bin", ".gguf", ".pt", ".pth")

#: Beside the weights' index, what is read of a model's size and shape.
_READ: Final = ("config.json", "hf_quant_config.json")


def outline_dir(repo: str) -> Path:
    """Return the path of a repository's outline, if it was fetched."""
    return state_dir() / "outlines" / repo.replace("/", "--")


def fetch_outline(repo: str, hub: HubConfig) -> Path:
    """Ask the hub for as little as possible. Nothing goes into the cache. Raises `UserError`."""
    prepare(hub)
    # It reads the environment when it is imported.
    from orchestrator.hub.remote import explained, look_up

    remote = look_up(repo, MAIN)
    path = outline_dir(repo)
    scratch = path.with_name(f".{path.name}.new")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    with explained(repo, MAIN), ThreadPoolExecutor(_AT_ONCE) as threads:
        list(threads.map(lambda file: _outline(remote, file, scratch), _outlined(remote)))
    shutil.rmtree(path, ignore_errors=True)
    scratch.rename(path)
    return path


def _outlined(remote: Remote) -> list[RemoteFile]:
    """Return the files that say something of the model's size."""
    files = {file.path: file for file in remote.files if "/" not in file.path}
    ggufs = [path for path in files if path.endswith(".gguf")]
    wanted = select(files, ggufs[:1] if len(ggufs) == len(_weights(files)) else ()).wanted
    return [files[path] for path in wanted if path.endswith((*_WEIGHTS, ".json"))]


def _weights(paths: dict[str, RemoteFile]) -> list[str]:
    return [path for path in paths if path.endswith(_WEIGHTS)]


def _outline(remote: Remote, file: RemoteFile, directory: Path) -> None:
    from huggingface_hub import HfApi, hf_hub_download

    repo, commit, path = remote.repo, remote.commit, directory / file.path
    if file.path.endswith(".safetensors"):
        found = HfApi().parse_safetensors_file_metadata(repo, file.path, revision=commit)
        tensors = {
            name: {"dtype": each.dtype, "shape": each.shape, "data_offsets": each.data_offsets}
            for name, each in found.tensors.items()
        }
        header = json.dumps(tensors).encode()
        path.write_bytes(struct.pack("<Q", len(header)) + header)
    elif file.path in _READ or file.path.endswith(".index.json"):
        hf_hub_download(repo, file.path, revision=commit, local_dir=directory)
        return
    elif not file.path.endswith(_WEIGHTS):
        return
    with path.open("ab") as content:
        content.truncate(max(file.size_bytes, content.tell()))
