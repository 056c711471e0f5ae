"""`ew --host URL`: a real gateway and supervisor, asked from a directory that has none."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.system.marks import kill_orphans
from tests.gateway.admin.test_admin_api import AdminHost
from tests.orchestrator.terminal import Result, Terminal


@pytest.fixture(scope="module")
def host() -> Iterator[AdminHost]:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="ew-") as made:
        patch.setenv("EW_STATE_DIR", f"{made}/state")
        host = AdminHost(Path(made))
        try:
            yield host
        finally:
            host.end()
            while kill_orphans([]):
                pass


@pytest.fixture
def elsewhere(tmp_path: Path) -> Terminal:
    """A place with neither a configuration nor a supervisor."""
    return Terminal(tmp_path)


def test_another_host_is_shown_and_changed(host: AdminHost, elsewhere: Terminal) -> None:
    def run(*words: str) -> Result:
        return elsewhere.run("--host", host.url, *words, EW_API_KEY=host.key)

    shown = run("status", "--json")
    assert shown.code == 0, shown
    assert {each["id"] for each in json.loads(shown.out)["models"]} == {"always", "later"}
    assert "later" in run("status").out
    assert run("load", "soon").code == 0
    assert host.is_loaded("later")
    again = run("load", "later")
    assert (again.code, again.err) == (0, "later-0 is loaded already\n")
    assert run("pin", "later").err == "later is pinned\n"
    assert run("pin", "later", "--off").err == "later may be unloaded again\n"
    assert run("unload", "later").code == 0
    assert not host.is_loaded("later")
    assert not elsewhere.state.exists(), "nothing is made here"


def test_the_key_may_be_in_a_file(host: AdminHost, elsewhere: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{host.key}\n")
    found = elsewhere.run("status", "--json", EW_HOST=host.url, EW_API_KEY_FILE=str(file))
    assert found.code == 0, found
    missing = elsewhere.run("status", EW_HOST=host.url, EW_API_KEY_FILE=str(tmp_path / "none"))
    assert missing.code == 1
    assert "EW_API_KEY_FILE names" in missing.err


def test_each_refusal_names_the_thing_and_the_next_step(
    host: AdminHost, elsewhere: Terminal
) -> None:
    def refused(*words: str, **environment: str) -> str:
        found = elsewhere.run(*words, **environment)
        assert found.code == 1, found
        assert found.out == ""
        return found.err

    assert "wants an operator's key" in refused("--host", host.url, "status")
    no_admin = host._key.text
    assert "scope `admin`" in refused("--host", host.url, "status", EW_API_KEY=no_admin)
    assert "refuses the key" in refused("--host", host.url, "status", EW_API_KEY="ew_wrong")
    nowhere = "http://127.0.0.1:1"
    said = refused("--host", nowhere, "status", EW_API_KEY=host.key)
    assert f"does ew run at {nowhere}?" in said
    assert "is no URL of a gateway" in refused("--host", "gpu1:8080", "status", EW_API_KEY="x")
    said = refused("--host", host.url, "start", EW_API_KEY=host.key)
    assert "`ew start` is about this host" in said.replace("./ew", "ew")
    assert "status, load, unload, pin" in said
    assert "nothing" in refused("--host", host.url, "load", "nothing", EW_API_KEY=host.key)
