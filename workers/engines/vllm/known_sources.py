"""Functions of vLLM that were read, by the text that they had.

Where ew does in its own way what some functions of vLLM do in between, only their text is a promise
that they do nothing else. A release that has another than those read goes vLLM's own way.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
from typing import Any

log = logging.getLogger(__name__)
#: By function, the digests of its text in the releases that it was read in.
Read = dict[str, dict[str, str]]


def why_unknown(read: Read, *modules: Any) -> str:
    """Say which function has another text than the ones read; empty if none has."""
    for name, digests in read.items():
        if digest_of(name, *modules) not in digests.values():
            return f"this release has another `{name}` than those that are known"
    return ""


def digest_of(name: str, *modules: Any) -> str:
    """Of the text of a method, in whichever of vLLM's modules it is; empty if in none."""
    cls, _, method = name.partition(".")
    found = (getattr(getattr(module, cls, None), method, None) for module in modules)
    function = next(filter(None, found), None)
    return "" if function is None else hashlib.sha256(_text(function)).hexdigest()[:16]


def own_way(of_what: str, why: str) -> str:
    """Return a remark for the operator on what goes vLLM's own way; empty without a reason."""
    if not why:
        return ""
    remark = f"{of_what} take vLLM's own way, which costs more: {why}"
    log.warning("%s", remark)
    return remark


def _text(function: Any) -> bytes:
    return inspect.getsource(function).encode()
