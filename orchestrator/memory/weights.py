"""How many bytes the weights of a checkpoint take, from the headers of its safetensors files.
Nothing is loaded, and neither torch nor a GPU is needed."""

from __future__ import annotations

import json
import math
import re
import struct
from pathlib import Path
from typing import Any, Final

import msgspec

from orchestrator.errors import UserError

#: A safetensors file starts with the length of its JSON header; the format allows no more.
_LARGEST_HEADER: Final = 100_000_000
_FLOATING: Final = frozenset({"F64", "F32", "F16", "BF16"})
_EMBEDDING: Final = re.compile(r"(embed_tokens|wte|word_embeddings|tok_embeddings)\.weight$")
_HEAD: Final = re.compile(r"(^|\.)(lm_head|embed_out|output)\.weight$")
_INDEXES: Final = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_OTHER_FORMATS: Final = ("*.safetensors", "*.bin", "*.gguf", "*.pt", "*.pth")


class Bulk(msgspec.Struct, frozen=True):
    """A part of the weights. The engine converts `floating` elements to the type that it runs in
    (`linear` of them are matrices, which it may also quantise while it loads); `fixed_bytes`
    stay as they are stored."""

    floating: int = 0
    linear: int = 0
    fixed_bytes: int = 0

    def __add__(self, other: Bulk) -> Bulk:
        return Bulk(
            self.floating + other.floating,
            self.linear + other.linear,
            self.fixed_bytes + other.fixed_bytes,
        )

    def size_bytes(self, element_bytes: float, linear_bytes: float | None = None) -> int:
        """With `linear_bytes` for each element of a matrix, if that differs."""
        matrix_bytes = element_bytes if linear_bytes is None else linear_bytes
        others = self.floating - self.linear
        return math.ceil(self.linear * matrix_bytes + others * element_bytes) + self.fixed_bytes


class Weights(msgspec.Struct, frozen=True):
    """`source` says what they were read from."""

    source: str
    layers: Bulk = Bulk()
    embedding: Bulk = Bulk()
    head: Bulk = Bulk()


def read_weights(path: Path, stored_element_bytes: int, *, is_tied: bool) -> Weights:
    """The weights in a directory. Files without a readable header, and a download that is not
    complete, are taken by size, their elements as large as config.json says.

    Raises `UserError` if there are none, or if a file is damaged.
    """
    index = _read_index(path)
    files = sorted(path.glob("*.safetensors"))
    if files and _is_complete(index, files):
        return _from_headers(files, is_tied=is_tied)
    indexed_bytes = index.get("metadata", {}).get("total_size")
    total_bytes = int(indexed_bytes or _file_bytes(path))
    if not total_bytes:
        raise UserError(
            f"{path} has no weights", "download the model completely, or correct `model_path`"
        )
    elements = total_bytes // stored_element_bytes
    source = "the index's total size" if indexed_bytes else "file sizes"
    return Weights(source, layers=Bulk(floating=elements, linear=elements))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises `UserError`."""
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}", "`model_path` must name a complete model"
        ) from None
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON: {error}", "download the model again") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected an object", "download the model again")
    return data


def _read_index(path: Path) -> dict[str, Any]:
    """What a checkpoint in several files says of them; empty if it is in one."""
    for name in _INDEXES:
        if (path / name).is_file():
            return read_json(path / name)
    return {}


def _is_complete(index: dict[str, Any], files: list[Path]) -> bool:
    return set(index.get("weight_map", {}).values()) <= {file.name for file in files}


def _file_bytes(path: Path) -> int:
    """The size of the first format that is there; some checkpoints come in several."""
    for pattern in _OTHER_FORMATS:
        total_bytes = sum(file.stat().st_size for file in path.glob(pattern))
        if total_bytes:
            return total_bytes
    return 0


def _from_headers(files: list[Path], *, is_tied: bool) -> Weights:
    layers = embedding = head = Bulk()
    for file in files:
        for name, tensor in _read_header(file).items():
            bulk = _bulk(tensor)
            if _EMBEDDING.search(name):
                embedding += bulk
            elif not _HEAD.search(name):
                layers += bulk
            elif not is_tied:
                # Some exports store a tied head a second time; engines skip it.
                head += bulk
    return Weights("safetensors headers", layers, embedding, head)


def _read_header(file: Path) -> dict[str, dict[str, Any]]:
    """The tensors of a safetensors file by name."""
    try:
        with file.open("rb") as content:
            (length,) = struct.unpack("<Q", content.read(8))
            if length > _LARGEST_HEADER:
                raise ValueError("the header is too long")
            tensors = json.loads(content.read(length))
    except (struct.error, ValueError) as error:
        raise UserError(f"{file}: not a safetensors file: {error}", "download it again") from None
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}", "download it again") from None
    tensors.pop("__metadata__", None)
    return dict(tensors)


def _bulk(tensor: dict[str, Any]) -> Bulk:
    start, end = tensor["data_offsets"]
    if tensor["dtype"] not in _FLOATING:
        return Bulk(fixed_bytes=end - start)
    elements = math.prod(tensor["shape"])
    return Bulk(floating=elements, linear=elements if len(tensor["shape"]) >= 2 else 0)
