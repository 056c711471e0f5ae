"""Which files of a repository an engine needs. Many repositories hold the same weights again and
again, for other libraries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from orchestrator.errors import UserError

_FOR_OTHERS: Final = (
    "original/*",
    "onnx/*",
    "openvino/*",
    "coreml/*",
    "metal/*",
    "*.onnx",
    "*.pth",
    "*.msgpack",
    "*.h5",
    "*.ot",
    "*.tflite",
    "*.mlmodel",
)
_OLDER: Final = ("*.bin", "*.pt")
_GGUF: Final = "*.gguf"


class Selection(NamedTuple):
    """Paths to fetch, and those that are left out."""

    wanted: list[str]
    left_out: list[str]


def select(paths: Iterable[str], include: Sequence[str] = ()) -> Selection:
    """Return what an engine needs of these files: all but weights for other libraries, and but
    the older format where safetensors are there. Small files beside `include`, which are globs
    for the weights, come along. Raises `UserError` if there is nothing to choose, or no choice."""
    files = sorted(paths)
    unwanted = [*_FOR_OTHERS]
    if _any(files, ["*.safetensors"]):
        unwanted += [*_OLDER, _GGUF]
    weights = [path for path in files if _any([path], ["*.safetensors", *_OLDER, _GGUF])]
    wanted = [path for path in files if not _any([path], unwanted)]
    if include:
        chosen = [path for path in files if _any([path], include)]
        if not chosen:
            raise UserError(f"no file is like {' or '.join(include)}", f"there are {_few(weights)}")
        wanted = sorted({*chosen, *(path for path in wanted if path not in weights)})
    elif len({_stem(path) for path in wanted if _any([path], [_GGUF])}) > 1:
        raise UserError(
            "the repository has several GGUF files, of which a model needs one",
            f"choose with --include '*Q4_K_M*'; there are {_few(weights)}",
        )
    return Selection(wanted, [path for path in files if path not in wanted])


def _any(paths: Iterable[str], globs: Iterable[str]) -> bool:
    return any(fnmatchcase(path, glob) for glob in globs for path in paths)


def _stem(path: str) -> str:
    """The same for all parts of one file that was split: `x-00001-of-00003.gguf`."""
    return path.split("-00")[0] if "-of-" in path else path


def _few(paths: Sequence[str]) -> str:
    shown = ", ".join(paths[:6])
    return f"{shown}, ... ({len(paths)} in all)" if len(paths) > 6 else shown or "no weights"
