"""The engine's own description of a model: asked of the library in its environment, without a GPU
and without weights, and remembered until a file of the model or the engine's release changes.

Asking takes as long as the library's import, some 10 s, so only commands ask, and the rest looks
at what is remembered. Without an answer, ew's own reading of config.json stands.
"""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from contract.config import ModelConfig
from contract.engines import declaration_of
from contract.messages import UNREADABLE
from contract.paths import ROOT, state_dir
from orchestrator.estimate.checkpoint import Checkpoint, locate_model, stamp
from orchestrator.estimate.layers.adapters import AdapterWidths
from orchestrator.estimate.layers.kept import CacheLayers
from orchestrator.estimate.layers.towers import Tower
from orchestrator.estimate.running import Card
from orchestrator.system.child_environment import PYTHON, engine_variables, inherited
from orchestrator.system.files import write_atomically

_SCRIPT: Final = ROOT / "scripts" / "describe_model.py"
_WITHIN_S: Final = 90.0
#: Of the engine's arguments, those that change what a model is.
_TELLING: Final = frozenset(
    {"config_format", "hf_overrides", "kv_cache_dtype", "dtype", "quantization", "revision"}
    | {"runner", "convert", "task"}
    | {"mamba_cache_dtype", "mamba_ssm_cache_dtype", "trust_remote_code", "hf_config_path"}
)


class Description(msgspec.Struct, frozen=True):
    """An engine's answer. `error` says why it has none, or none about the layers."""

    release: str = ""
    context_len: int = 0
    #: Run at once where the configuration does not say, on the card that was asked for.
    sequences: int = 0
    batched_tokens: int = 0
    dtype: str = ""
    quantization: str = ""
    weight_bytes: int = 0
    caches: tuple[CacheLayers, ...] = ()
    adapters: AdapterWidths | None = None
    #: The most tokens of an image, a video and an audio, as far as they are known.
    media: dict[str, int] = {}
    error: str = ""


class Question(msgspec.Struct, frozen=True):
    """A model on a kind of card, to a release of an engine. Raises `UserError` when it is made of
    a model whose files are not here."""

    arguments: dict[str, Any]
    card_name: str
    card_bytes: int
    key: str

    @classmethod
    def of(cls, model: ModelConfig, engine: str, release: str, card: Card) -> Question:
        path = locate_model(model)
        args: dict[str, Any] = {"dtype": model.dtype, "quantization": model.quantization}
        args["trust_remote_code"] = model.trust_remote_code or None
        args |= {name: value for name, value in model.engine_args.items() if name in _TELLING}
        given = {name: value for name, value in args.items() if value is not None}
        given["model"], given["skip_tokenizer_init"] = str(path), True
        facts = msgspec.json.encode(
            [given, stamp(path), engine, release, card.name, card.total_bytes], order="sorted"
        )
        key = hashlib.sha256(facts).hexdigest()[:24]
        return cls(given, card.name, card.total_bytes, key)


def remembered(question: Question) -> Description | None:
    """Return the answer that was given to it; None if it was never asked."""
    try:
        return msgspec.json.decode(_file(question).read_bytes(), type=Description)
    except (FileNotFoundError, *UNREADABLE):
        return None


def ask(questions: Sequence[Question], python: Path, within_s: float = _WITHIN_S) -> str:
    """Ask the engine in this Python's environment, all at once, and remember what it answers.
    Blocks for some 10 s, and never longer than `within_s`. Returns what went wrong."""
    new = [each for each in questions if remembered(each) is None]
    problem = _ask(new, python, within_s) if new else ""
    for each in new:
        if problem and remembered(each) is None:
            _write(_file(each).with_suffix(".problem"), problem.encode())
    return problem


def _ask(new: Sequence[Question], python: Path, within_s: float) -> str:
    lines = b"\n".join(map(msgspec.json.encode, new)) + b"\n"
    try:
        done = subprocess.run(
            [str(python), str(_SCRIPT)],
            input=lines,
            env=inherited(os.environ, engine_variables()) | PYTHON,
            capture_output=True,
            timeout=within_s,
            check=False,
        )
        _remember(new, done.stdout)
    except subprocess.TimeoutExpired as late:
        _remember(new, late.stdout or b"")
        return f"the engine did not say within {within_s:.0f} s what it makes of the model"
    except (OSError, *UNREADABLE) as error:
        return f"the engine cannot be asked what it makes of the model: {error}"
    if any(remembered(each) is None for each in new):
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        return f"the engine cannot be asked what it makes of the model: {' '.join(last)}"
    return ""


def own_reading(
    engine: str, release: str, question: Question, description: Description | None
) -> str:
    """Return why ew's own reading of the files counts, all of it or that of the layers, and what
    would let the engine say it; empty where the engine has."""
    if not declaration_of(engine).describes_models:
        return f"{engine} cannot be asked; what it takes is measured at its first start"
    if description is not None:
        if not description.error:
            return ""
        what = "what its layers keep" if description.release else "what it makes of the model"
        said = f"vLLM does not say {what}: {description.error}"
        return f"{said}; its first start measures it, and another release may say it"
    if not release:
        return f"it has no environment here; `./ew setup --engine {engine}` makes one to ask"
    failed = _problem_of(question) or "the engine was not asked"
    return f"{failed}; `./ew estimate` asks it again"


def as_described(checkpoint: Checkpoint, description: Description) -> Checkpoint:
    """Return a checkpoint with the engine's own figures, where it gave some."""
    shape = checkpoint.shape
    shape = msgspec.structs.replace(
        shape,
        context_len=description.context_len or shape.context_len,
        caches=shape.caches if description.error else description.caches,
        adapters=description.adapters or shape.adapters,
        towers=tuple(_counted(each, description.media) for each in shape.towers),
        media=description.media,
    )
    quantization = checkpoint.quantization or description.quantization
    return msgspec.structs.replace(checkpoint, shape=shape, quantization=quantization)


def _counted(tower: Tower, media: dict[str, int]) -> Tower:
    """Return a tower with as many tokens as the engine makes of what it sees or hears, and as many
    more patches."""
    said = max((media.get(kind, 0) for kind in tower.kinds), default=0)
    if not said:
        return tower
    patches = math.ceil(tower.patches * said / tower.tokens)
    return msgspec.structs.replace(tower, tokens=said, patches=patches)


def differences(checkpoint: Checkpoint, description: Description) -> list[str]:
    """Return the figures in which ew's own reading of the files differs."""
    own, engine = checkpoint.shape, f"vLLM {description.release}"
    found = []
    if description.context_len != own.context_len:
        found.append(
            f"{engine} takes {description.context_len} tokens of context; "
            f"ew reads {own.context_len}"
        )
    if not description.error and _facts(description.caches) != _facts(own.caches):
        found.append(f"{engine} has {_named(description.caches)}; ew reads {_named(own.caches)}")
    for tower in own.towers:
        said = _counted(tower, description.media).tokens
        if said != tower.tokens:
            what = " or ".join(tower.kinds)
            found.append(f"{engine} makes {said} tokens of an {what}; ew reads {tower.tokens}")
    return found


def _facts(caches: Sequence[CacheLayers]) -> set[CacheLayers]:
    """Of a cache in eight bits an engine tells only if it was asked for one."""
    return {msgspec.structs.replace(each, packed_bytes=0) for each in caches}


def _named(caches: Sequence[CacheLayers]) -> str:
    return ", ".join(str(each) for each in caches) or "no layers that keep anything"


def _file(question: Question) -> Path:
    return state_dir() / "descriptions" / f"{question.key}.json"


def _problem_of(question: Question) -> str:
    """Return why it had no answer when it was last asked."""
    try:
        return _file(question).with_suffix(".problem").read_text()
    except (FileNotFoundError, *UNREADABLE):
        return ""


def _remember(questions: Sequence[Question], output: bytes) -> None:
    """Remember the answers, each a whole line. Raises what `UNREADABLE` has."""
    for question, line in zip(questions, output.splitlines(keepends=True), strict=False):
        if line.endswith(b"\n"):
            answer = msgspec.json.decode(line, type=Description)
            _write(_file(question), msgspec.json.encode(answer))


def _write(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, content)
