"""`ew convert-trt` and the script behind it take the same options, with the same defaults."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import typer

from contract.paths import ROOT
from orchestrator.tensorrt.plan import DEFAULTS, flags

#: Options that only one of the two has: where it runs, what becomes of it, where it writes.
ONLY_EW = {"--env", "--add-to-config", "--help"}
ONLY_SCRIPT = {"--log", "--help"}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import convert_trt

    yield convert_trt
    for name in [name for name in sys.modules if name.startswith(("convert_trt", "trt_conv"))]:
        del sys.modules[name]


def command_options() -> dict[str, Any]:
    from orchestrator.cli.install import convert_trt

    app = typer.Typer(add_completion=False)
    app.command()(convert_trt.convert_trt)
    command = typer.main.get_command(app)
    found = {}
    for parameter in command.params:
        (option,) = [name for name in parameter.opts if name.startswith("--")]
        found[option] = parameter.default
    return found


def script_options(script: Any) -> dict[str, Any]:
    return {
        action.option_strings[-1]: action.default for action in script.argument_parser()._actions
    }


def test_both_take_the_same_options(script: Any) -> None:
    ours, theirs = command_options(), script_options(script)
    assert ours.keys() - ONLY_EW == theirs.keys() - ONLY_SCRIPT


def test_both_have_the_same_defaults(script: Any) -> None:
    ours, theirs = command_options(), script_options(script)
    shared = (ours.keys() - ONLY_EW - {"--model", "--output"}) & theirs.keys()
    assert {name: ours[name] for name in shared} == {name: theirs[name] for name in shared}


def test_the_users_defaults_are_these() -> None:
    assert DEFAULTS["dtype"] == "float16"
    assert DEFAULTS["tp_size"] == 1
    assert DEFAULTS["max_batch_size"] == 64
    assert DEFAULTS["max_input_len"] == 4096
    assert DEFAULTS["max_output_len"] == 2048


def test_what_is_as_by_default_is_not_said() -> None:
    assert flags({**DEFAULTS, "model": "m", "force": True, "dry_run": False, "lora": None}) == [
        *("--model", "m"),
        "--force",
    ]
