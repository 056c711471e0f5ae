"""Which keys share the engine's cache of prompts. A prompt that begins like an earlier one is
answered sooner, so that a client could find out what others asked."""

from __future__ import annotations

import hashlib
from functools import lru_cache

from contract.config import ModelConfig
from contract.messages import Job


def cache_salt(job: Job, model: ModelConfig) -> str | None:
    """Return what keeps a job's prompt apart from those of other keys, and of other salts that
    requests give; None where all share."""
    if model.share_prefix_cache and not job.cache_salt:
        return None
    return _salt("" if model.share_prefix_cache else job.key_id, job.cache_salt)


@lru_cache(maxsize=1024)
def _salt(key_id: str, given: str) -> str:
    salt = b"\0" + given.encode() if given else b""
    return hashlib.sha256(b"ew prefix cache\0" + key_id.encode() + salt).hexdigest()[:32]
