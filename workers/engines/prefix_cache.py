"""Who shares the engine's cache of prompts. A prompt that begins like an earlier one is answered
sooner, so that who asks could find out what others asked."""

from __future__ import annotations

import hashlib

from contract.config import ModelConfig
from contract.messages import Job


def cache_salt(job: Job, model: ModelConfig) -> str | None:
    """What keeps a job's prompt apart from those of other keys; None where all keys share."""
    if model.share_prefix_cache:
        return None
    return hashlib.sha256(b"ew prefix cache\0" + job.key_id.encode()).hexdigest()[:32]
