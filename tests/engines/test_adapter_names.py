"""The adapter of requests that name the model itself, beside those that an entry names."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from contract.config import ModelConfig
from contract.messages import Job, Sampling
from workers.engine import JobRejected
from workers.engines.shared.adapters import DEFAULT, adapter_of, named_adapters


def a_job(adapter: str | None = None) -> Job:
    return Job("j", "m", Sampling(max_tokens=1), prompt="x", adapter=adapter)


def test_no_adapter_takes_the_place_of_the_model_s_own() -> None:
    model = ModelConfig(model_path="-", adapter_path="/own", adapters={"default": "/default"})
    known = named_adapters(model)
    assert list(known.values()) == ["/own", "/default"]
    assert known[adapter_of(a_job(), model, known) or ""] == "/own"
    assert known[adapter_of(a_job("default"), model, known) or ""] == "/default"
    with pytest.raises(JobRejected, match=r"no adapter `x`; this model has `default`$"):
        adapter_of(a_job("x"), model, known)
    with pytest.raises(ValidationError, match="should match pattern"):
        ModelConfig(model_path="-", adapters={DEFAULT: "/other"})
