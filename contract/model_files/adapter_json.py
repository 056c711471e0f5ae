"""adapter_config.json of a LoRA adapter: a worker tells its engine the rank that adapters have, and
the supervisor counts what that takes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from contract.paths import project_dir

#: The values that vLLM takes for `max_lora_rank` (`MaxLoRARanks` in its config/lora.py, 0.26 to
#: 0.33), and its default.
_PLACES: Final = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_USUAL: Final = 16
#: Above any adapter's.
_LARGEST: Final = 2**16

#: Settings by which PEFT (0.21) computes more than `lora_alpha / r` times the two matrices.
_SPECIAL: Final = (
    "use_rslora",
    "use_dora",
    "rank_pattern",
    "alpha_pattern",
    "lora_bias",
    "modules_to_save",
    "trainable_token_indices",
    "alora_invocation_tokens",
    "layer_replication",
    "use_qalora",
    "use_bdlora",
    "kasa_config",
    "monteclora_config",
)
#: Values of `init_lora_weights` by which PEFT changes the model's own weights when it loads them.
_CHANGES_THE_MODEL: Final = ("pissa", "olora", "corda", "loftq")

Rank = Annotated[int, msgspec.Meta(ge=1, le=_LARGEST)]


class AdapterJson(msgspec.Struct, frozen=True):
    """As PEFT writes it: one rank, and others for modules whose names match a pattern."""

    r: Rank
    rank_pattern: dict[str, Rank] | None = None


def rank_of(adapter: Path) -> int:
    """Return the largest rank in an adapter's directory. Raises `OSError` if it has no such file,
    and `ValueError` if the file does not say."""
    content = (adapter / "adapter_config.json").read_bytes()
    read = msgspec.json.decode(content, type=AdapterJson)
    return max(read.r, *(read.rank_pattern or {}).values(), 1)


def special_settings(adapter: Path) -> list[str]:
    """Return the settings of an adapter without which it would be computed wrongly. Raises as
    `rank_of`."""
    content = (adapter / "adapter_config.json").read_bytes()
    read = msgspec.json.decode(content, type=dict[str, Any])
    found = [name for name in _SPECIAL if read.get(name)]
    if str(read.get("init_lora_weights")).lower().startswith(_CHANGES_THE_MODEL):
        found.append("init_lora_weights")
    return found + (["bias"] if read.get("bias", "none") not in (None, "none") else [])


def place_rank(adapters: Iterable[str]) -> int:
    """Return the rank of the places that vLLM keeps for adapters: the least that it can have and
    that holds them all. One that is not here yet, or cannot be read, counts as the usual rank:
    vLLM says what is wrong with it."""
    largest = max(map(_rank_or_usual, adapters), default=_USUAL)
    return next((rank for rank in _PLACES if rank >= largest), _PLACES[-1])


def _rank_or_usual(adapter: str) -> int:
    try:
        return rank_of(project_dir() / Path(adapter).expanduser())
    except (OSError, ValueError):
        return _USUAL
