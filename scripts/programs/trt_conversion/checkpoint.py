"""The checkpoint that is converted: where it lies, what model it is, and how large."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from programs.trt_conversion.problem import Problem

#: Names of families for users, by the names in checkpoints.
_FAMILIES: Final = {
    "llama": "llama",
    "yi": "llama",
    "qwen": "qwen",
    "qwen2": "qwen",
    "qwen2_moe": "qwen",
    "qwen3": "qwen",
    "qwen3_moe": "qwen",
    "mistral": "mistral",
    "mixtral": "mistral",
    "baichuan": "baichuan",
    "chatglm": "chatglm",
    "glm": "chatglm",
    "glm4": "chatglm",
}
_DTYPE_BYTES: Final = {"float32": 4, "float16": 2, "bfloat16": 2}
_WEIGHTS: Final = (".safetensors", ".bin", ".pth", ".pt")
#: The files of a checkpoint, besides its weights, that serving needs.
_COMPANIONS: Final = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.tiktoken",
    "*.model",
    "chat_template.*",
    "generation_config.json",
)
_CODE: Final = "tokenization_*.py"


class Checkpoint:
    """A Hugging Face checkpoint in a local directory. Raises `Problem` if it is none."""

    def __init__(self, path: Path, given: str, revision: str | None = None) -> None:
        self.path = path
        #: As the user named it; a directory in full.
        self.name = given if revision else str(path)
        self.revision = revision
        config = path / "config.json"
        if not config.is_file():
            raise Problem(
                f"{path} has no config.json: it is not a Hugging Face checkpoint",
                "give the directory with config.json and the weights, or a repository id",
            )
        self.config: dict[str, Any] = json.loads(config.read_text())
        if "build_config" in self.config:
            raise Problem(f"{path} is a plan already", "serve it: `model_path` is its directory")
        if not self.weight_files:
            raise Problem(f"{path} has no weights (*.safetensors or *.bin)")

    @property
    def model_type(self) -> str:
        return str(self.config.get("model_type", "")).lower()

    @property
    def family(self) -> str:
        """llama, qwen, mistral, baichuan, chatglm; or else what the checkpoint calls itself."""
        return _FAMILIES.get(self.model_type, self.model_type)

    @property
    def architecture(self) -> str:
        return str((self.config.get("architectures") or [""])[0])

    @property
    def weight_files(self) -> list[Path]:
        """The weights; of several formats the one that is loaded."""
        for ending in _WEIGHTS:
            found = sorted(path for path in self.path.glob(f"*{ending}") if path.is_file())
            if found:
                return found
        return []

    @property
    def weight_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.weight_files)

    @property
    def parameters(self) -> int:
        """How many, going by the size of the weights."""
        stored = self.config.get("dtype") or self.config.get("torch_dtype") or "float16"
        return self.weight_bytes // _DTYPE_BYTES.get(str(stored), 2)

    @property
    def is_quantised(self) -> bool:
        return "quantization_config" in self.config or (self.path / "hf_quant_config.json").exists()

    def companions(self, *, with_code: bool) -> Iterator[Path]:
        """Tokenizer, chat template and generation config. Never weights: a plan directory with
        such files would be taken for a checkpoint."""
        patterns = (*_COMPANIONS, _CODE) if with_code else _COMPANIONS
        found = {path for pattern in patterns for path in self.path.glob(pattern)}
        return (path for path in sorted(found) if path.is_file() and path.suffix not in _WEIGHTS)

    def fingerprint(self) -> str:
        """Changes when the checkpoint does; reads no weights."""
        digest = hashlib.sha256((self.path / "config.json").read_bytes())
        for path in [*self.weight_files, *self.companions(with_code=True)]:
            status = path.stat()
            moment = "" if self.revision else status.st_mtime_ns
            digest.update(f"{path.name} {status.st_size} {moment}\n".encode())
        return digest.hexdigest()

    def require_family(self, asked: str | None) -> None:
        """Raises `Problem` if the user took it for another kind of model."""
        if asked is None:
            return
        wanted = asked.lower()
        if wanted not in (self.model_type, self.family) and _FAMILIES.get(wanted) != self.family:
            raise Problem(
                f"{self.name} is a `{self.family}` model (its config.json says "
                f"`{self.model_type}`), not `{asked}`",
                f"--model-type {self.family}, or leave --model-type out",
            )


def open_checkpoint(
    model: str, revision: str | None, announce: Callable[[str], object]
) -> Checkpoint:
    """Return the checkpoint in a directory, or of a Hugging Face repository, which is downloaded
    if it is not here yet. Raises `Problem`."""
    path = Path(model).expanduser()
    if path.is_dir():
        return Checkpoint(path.resolve(), model)
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", model):
        raise Problem(
            f"no checkpoint at `{model}`",
            "give a local directory, or a Hugging Face repository id such as "
            "Qwen/Qwen2.5-7B-Instruct",
        )
    snapshot = _snapshot(model, revision, announce)
    return Checkpoint(snapshot, model, snapshot.name)


def _snapshot(repository: str, revision: str | None, announce: Callable[[str], object]) -> Path:
    from huggingface_hub import snapshot_download

    ignored = ["original/*", "*.pth", "*.gguf", "*.onnx"]
    options = {"revision": revision, "ignore_patterns": ignored}
    try:
        return Path(snapshot_download(repository, local_files_only=True, **options))
    except OSError:
        announce(f"downloading {repository}")
    try:
        return Path(snapshot_download(repository, **options))
    # The hub's client raises errors of several libraries, also for a missing network.
    except Exception as error:
        raise Problem(
            f"{repository} cannot be downloaded: {str(error).splitlines()[0]}",
            "check the name, the network, and HF_TOKEN for models behind a licence; or download "
            "it elsewhere and give the directory",
        ) from None
