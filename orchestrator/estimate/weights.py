"""How many bytes the weights of a checkpoint take, from the headers of its safetensors files.
Nothing is loaded, and neither torch nor a GPU is needed."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Final

import msgspec

from orchestrator.errors import UserError
from orchestrator.estimate.layers.adapters import AdapterWidths
from orchestrator.estimate.layers.projections import projection_widths
from orchestrator.estimate.model_json import (
    FLOATING_BYTES,
    IndexJson,
    TensorJson,
    read_index,
    read_tensors,
)

_EMBEDDING: Final = re.compile(r"(embed_tokens|wte|word_embeddings|tok_embeddings)\.weight$")
_HEAD: Final = re.compile(r"(^|\.)(lm_head|embed_out|output)\.weight$")
_PREDICTORS: Final = ("mtp.", "model.mtp.")
_NUMBERED: Final = re.compile(r"(?:language_model\.)?model\.layers\.(\d+)\.")
_INDEXES: Final = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_OWN_COPY: Final = "consolidated"
_GGUF: Final = "*.gguf"
_OTHER_FORMATS: Final = ("*.safetensors", "*.bin", _GGUF, "*.pt", "*.pth")


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
    #: Layers beyond the model's own, that predict further tokens. The engine loads them only
    #: where it is told to guess with them.
    predictors: Bulk = Bulk()
    #: Of the projections in the layers; 0 where the headers do not say.
    adapters: AdapterWidths = AdapterWidths()
    #: Files of weights that the engine leaves alone.
    strays: tuple[str, ...] = ()


def read_weights(
    path: Path, stored_element_bytes: int | None, *, is_tied: bool, layers: int, hidden: int
) -> Weights:
    """The weights in a directory, of a model with so many layers, so wide. Files without a readable
    header, and a download that is not complete, are taken by size, their elements as large as
    config.json says; None for a quantised checkpoint, which stays as large as it is stored.

    Raises `UserError` if there are none, or if a file is damaged.
    """
    index = _read_index(path)
    there = sorted(path.glob("*.safetensors"))
    files = _loaded(there, index)
    missing = _missing(index, path)
    if files and not missing:
        strays = tuple(file.name for file in there if file not in files)
        found = _from_headers(files, is_tied=is_tied, own_layers=layers, hidden=hidden)
        return msgspec.structs.replace(found, strays=strays)
    if missing and not index.total_bytes:
        raise UserError(
            f"{path} is not complete: it lacks {missing[0]}", "download the rest of the model"
        )
    total_bytes = index.total_bytes or _file_bytes(path)
    if not total_bytes:
        raise UserError(
            f"{path} has no weights", "download the model completely, or correct `model_path`"
        )
    source = "the index's total size" if index.total_bytes else "file sizes"
    if stored_element_bytes is None:
        return Weights(source, layers=Bulk(fixed_bytes=total_bytes))
    elements = total_bytes // stored_element_bytes
    return Weights(source, layers=Bulk(floating=elements, linear=elements))


def has_weights(path: Path) -> bool:
    """Whether a directory has files of weights, or what says how large they will be."""
    return any(next(path.glob(pattern), None) for pattern in (*_INDEXES, *_OTHER_FORMATS))


def is_gguf(path: Path) -> bool:
    """Whether a directory has weights in GGUF and in no format that engines take before it."""
    formats = _OTHER_FORMATS[: _OTHER_FORMATS.index(_GGUF)]
    has_other = any(next(path.glob(each), None) for each in formats)
    return not has_other and next(path.glob(_GGUF), None) is not None


def size_of(file: Path) -> int:
    """The size of a file in bytes. Raises `UserError`."""
    try:
        return file.stat().st_size
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}", "download it again") from None


def _read_index(path: Path) -> IndexJson:
    """Return the index of a checkpoint in several files; nothing if it is in one."""
    for name in _INDEXES:
        if (path / name).is_file():
            return read_index(path / name)
    return IndexJson()


def _loaded(files: list[Path], index: IndexJson) -> list[Path]:
    """The files that vLLM loads: those that the index names; else all but Mistral's own copy
    (`consolidated*`), which counts where there is nothing else."""
    named = set((index.weight_map or {}).values())
    if named:
        return [file for file in files if file.name in named]
    return [file for file in files if not file.name.startswith(_OWN_COPY)] or files


def _missing(index: IndexJson, path: Path) -> list[str]:
    """The files that the index names and that are not there."""
    named = set((index.weight_map or {}).values())
    return sorted(named - {file.name for file in path.iterdir()})


def _file_bytes(path: Path) -> int:
    """The size of the first format that is there; some checkpoints come in several."""
    for pattern in _OTHER_FORMATS:
        total_bytes = sum(size_of(file) for file in path.glob(pattern))
        if total_bytes:
            return total_bytes
    return 0


def _from_headers(files: list[Path], *, is_tied: bool, own_layers: int, hidden: int) -> Weights:
    layers = embedding = head = predictors = Bulk()
    tensors = [each for file in files for each in read_tensors(file).items()]
    own = []
    for name, tensor in tensors:
        bulk = bulk_of(tensor)
        if _predicts(name, own_layers):
            predictors += bulk
            continue
        own.append((name, tensor))
        if _EMBEDDING.search(name):
            embedding += bulk
        elif not _HEAD.search(name):
            layers += bulk
        elif not is_tied:
            # Some exports store a tied head a second time; engines skip it.
            head += bulk
    adapters = projection_widths(own, own_layers, hidden)
    return Weights("safetensors headers", layers, embedding, head, predictors, adapters=adapters)


def _predicts(name: str, own_layers: int) -> bool:
    """Whether a tensor belongs to a layer that predicts further tokens: `mtp.` in front (Qwen3-Next
    and others), or a number beyond the model's own layers (DeepSeek V3, GLM 4.5)."""
    if name.startswith(_PREDICTORS):
        return True
    numbered = _NUMBERED.match(name)
    return numbered is not None and int(numbered[1]) >= own_layers


def bulk_of(tensor: TensorJson) -> Bulk:
    start, end = tensor.data_offsets
    if tensor.dtype not in FLOATING_BYTES:
        return Bulk(fixed_bytes=end - start)
    is_matrix = len(tensor.shape) >= 2
    return Bulk(floating=tensor.elements, linear=tensor.elements if is_matrix else 0)
