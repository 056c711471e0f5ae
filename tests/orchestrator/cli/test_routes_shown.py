"""Where the requests for a model go beside it, as `status` and `models show` tell it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import msgspec
import pytest

from contract.config import Config
from contract.messages import State
from contract.supervision.routes import ModelRoutes
from contract.supervision.status import ModelStatus, RunStatus
from orchestrator.cli.status_screen.text import StatusText
from orchestrator.hub.holdings import Holding, lines_of
from orchestrator.supervisor.file_watch import FileWatch

MOCK = {"engine": "mock", "model_path": "none"}
ROUTED = {
    **MOCK,
    "fallback": {"to": ["small", "tiny"], "after_waiting": 50, "after_wait_s": 20},
    "split": {"to": {"next": 5}},
    "shadow": {"to": "next", "percent": 10},
}
MODELS = {"chat": ROUTED, "small": MOCK, "tiny": MOCK, "next": MOCK}
WORDS = [
    "requests go elsewhere: 5% to next",
    "falls back to small, tiny while it is not served, while 50 wait, after a wait of 20 s",
    "10% are copied to next",
]


@pytest.fixture
def routes() -> ModelRoutes:
    found = ModelRoutes.of(Config.model_validate({"models": MODELS}).models["chat"])
    assert found is not None
    return found


def test_status_tells_them_below_the_model(routes: ModelRoutes) -> None:
    chat = ModelStatus("chat", State.READY, 0, 0, 0.0, [], routes=routes)
    read = msgspec.json.decode(msgspec.json.encode(RunStatus(1.0, models=[chat])), type=RunStatus)
    assert read.models[0].routes == routes
    shown = StatusText(io.StringIO()).lines(read, 2.0)
    assert max(map(len, shown)) <= 80
    assert " ".join(" ".join(shown).split()).endswith(" ".join(WORDS))


def test_models_show_tells_them(routes: ModelRoutes, tmp_path: Path) -> None:
    found = Holding("a/b", tmp_path, 0, 0, {}, {}, ["chat"], {}, {"chat": routes})
    shown = list(lines_of(found))
    assert [line.removeprefix("  routes    ") for line in shown if "routes" in line] == WORDS


def test_the_supervisor_tells_those_of_the_last_file_that_could_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, routes: ModelRoutes
) -> None:
    file = tmp_path / "config.json"
    monkeypatch.setenv("EW_CONFIG", str(file))
    watch = FileWatch()
    file.write_text(json.dumps({"models": MODELS}))
    assert not watch.look([], None, {}).problem
    assert watch.routes == {"chat": routes}
    file.write_text("{")
    assert watch.look([], None, {}).problem
    assert watch.routes == {"chat": routes}
    file.write_text(json.dumps({"models": {"chat": MOCK}}))
    watch.look([], None, {})
    assert watch.routes == {}
