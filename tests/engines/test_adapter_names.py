"""The adapters of a model by their names, and those that a library would compute wrongly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from contract.config import ModelConfig
from contract.messages import Job, Sampling
from workers.engine import CannotServe, JobRejected
from workers.engines.shared.adapters import DEFAULT, NamedAdapters

#: As PEFT writes it, with a value for all that it can do.
PLAIN: dict[str, Any] = {
    "peft_type": "LORA",
    "r": 8,
    "lora_alpha": 16,
    "target_modules": ["q_proj"],
    "bias": "none",
    "init_lora_weights": True,
    "use_rslora": False,
    "rank_pattern": {},
    "alpha_pattern": {},
    "modules_to_save": None,
    "alora_invocation_tokens": None,
}


def a_job(adapter: str | None = None) -> Job:
    return Job("j", "m", Sampling(max_tokens=1), prompt="x", adapter=adapter)


def write(path: Path, **settings: Any) -> str:
    path.mkdir()
    (path / "adapter_config.json").write_text(json.dumps(PLAIN | settings))
    return str(path)


def test_no_adapter_takes_the_place_of_the_model_s_own() -> None:
    model = ModelConfig(model_path="-", adapter_path="/own", adapters={"default": "/default"})
    adapters = NamedAdapters(model)
    assert list(adapters.served.values()) == ["/own", "/default"]
    assert adapters.served[adapters.of(a_job()) or ""] == "/own"
    assert adapters.served[adapters.of(a_job("default")) or ""] == "/default"
    with pytest.raises(JobRejected, match=r"no adapter `x`; this model has `default`$"):
        adapters.of(a_job("x"))
    with pytest.raises(ValidationError, match=r"adapters\.\(adapter_path\)"):
        ModelConfig(model_path="-", adapters={DEFAULT: "/other"})


@pytest.mark.parametrize(
    "settings",
    [
        {"use_rslora": True},
        {"use_dora": True},
        {"rank_pattern": {"q_proj": 4}},
        {"alpha_pattern": {"q_proj": 4}},
        {"bias": "lora_only"},
        {"init_lora_weights": "pissa_niter_4"},
        {"alora_invocation_tokens": [1, 2]},
        {"kasa_config": {"beta": 1e-4}},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_an_adapter_that_would_be_computed_wrongly_is_refused(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    """It alone, by its name, unless the library reads the setting."""
    (name,) = settings
    paths = {"odd": write(tmp_path / "odd", **settings), "plain": write(tmp_path / "plain")}
    adapters = NamedAdapters(ModelConfig(model_path="-", adapters=paths))
    adapters.refuse_unread("SGLang", [name])
    assert (adapters.served, adapters.remark("SGLang")) == (paths, "")

    adapters.refuse_unread("SGLang")
    assert list(adapters.served) == ["plain"]
    reason = f"SGLang does not heed `{name}` of its adapter_config.json"
    assert adapters.remark("SGLang") == f"adapters: `odd` cannot be loaded: {reason}"
    assert adapters.of(a_job("plain")) == "plain"
    assert adapters.of(a_job()) is None
    with pytest.raises(JobRejected, match="`odd` cannot be loaded"):
        adapters.of(a_job("odd"))


def test_a_start_fails_where_the_model_s_own_adapter_would_be_computed_wrongly(
    tmp_path: Path,
) -> None:
    own = write(tmp_path / "own", use_rslora=True)
    adapters = NamedAdapters(ModelConfig(model_path="-", adapter_path=own))
    adapters.refuse_unread("SGLang")
    with pytest.raises(CannotServe, match=r"`adapter_path`: SGLang .* does not heed `use_rslora`"):
        adapters.remark("SGLang")


def test_what_is_wrong_with_a_file_is_for_the_library_to_say(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{")
    paths = {"broken": str(tmp_path), "nowhere": str(tmp_path / "no"), "hub": "org/adapter"}
    adapters = NamedAdapters(ModelConfig(model_path="-", adapters=paths))
    adapters.refuse_unread("SGLang")
    assert adapters.served == paths
