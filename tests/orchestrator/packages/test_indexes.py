"""Where packages come from: the user's mirrors, and a package's own index."""

from __future__ import annotations

import functools
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.errors import UserError
from orchestrator.packages.lock_file import normalised, read_lock
from orchestrator.packages.pip_settings import (
    further_places,
    registry_alone,
    uv_settings,
)
from tests.orchestrator.installation import Installation
from tests.tiny_wheels import make_wheel


class Index:
    """A package index on loopback, or only its files; `asked` are the paths that were asked for."""

    def __init__(self, directory: Path, *, serve: bool = True) -> None:
        self.directory = directory
        self.asked: list[str] = []
        if serve:
            self._serve()

    def _serve(self) -> None:
        handler = functools.partial(_Handler, self)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/simple"
        threading.Thread(target=self.server.serve_forever).start()

    def add(self, name: str, version: str, files: dict[str, str] | None = None) -> str:
        """Put a package there. Returns its entry in a lock."""
        project = self.directory / "simple" / normalised(name)
        entry = make_wheel(project, name, version, files)
        wheel = f"{name}-{version}-py3-none-any.whl"
        (project / "index.html").write_text(f'<a href="{wheel}">{wheel}</a>')
        return entry

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class _Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, index: Index, *arguments: object) -> None:
        self.index = index
        super().__init__(*arguments, directory=str(index.directory))  # type: ignore[arg-type]

    def log_message(self, *arguments: object) -> None:
        self.index.asked.append(self.path)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    (tmp_path / "index/simple").mkdir(parents=True)
    index = Index(tmp_path / "index")
    yield index
    index.close()


@pytest.fixture
def ew(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def test_a_package_can_come_from_an_index_of_its_own(ew: Installation, index: Index) -> None:
    """And nothing else is asked for there."""
    ew.declare(indexes={index.url: ["special"]})
    del ew.environment["PIP_NO_INDEX"]
    ew.environment["PIP_INDEX_URL"] = f"{index.url}/../mirror"
    lock = ew.root / "deploy/engines/tiny-1.0.lock"
    lock.write_text(lock.read_text() + index.add("special", "1.0"))
    ew.run("setup", "--engine", "tiny", "--force")
    assert list(ew.env("ew-tiny").glob("lib/*/site-packages/special.py"))
    assert not [path for path in index.asked if path.startswith("/simple/tiny")]


def test_an_index_that_does_not_answer_is_done_without(ew: Installation) -> None:
    ew.declare(indexes={"http://127.0.0.1:9/simple": ["special"]})
    lock = ew.root / "deploy/engines/tiny-1.0.lock"
    lock.write_text(lock.read_text() + make_wheel(ew.wheels, "special", "1.0"))
    ew.run("setup", "--engine", "tiny")
    assert list(ew.env("ew-tiny").glob("lib/*/site-packages/special.py"))


@pytest.mark.parametrize("place", ["PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"])
def test_a_build_of_ones_own_does_not_stand_in_the_way(
    ew: Installation, index: Index, tmp_path: Path, place: str
) -> None:
    """uv takes it for the locked file, and would give up at its hash."""
    ew.declare()
    lock = ew.root / "deploy/engines/tiny-1.0.lock"
    for pin in read_lock(lock).pins():
        index.add(pin.name, pin.version)
    own = Index(tmp_path / "own", serve=False)
    own.add("tiny", "1.0", {"tiny.py": "VERSION = 'our own'"})
    del ew.environment["PIP_NO_INDEX"], ew.environment["PIP_FIND_LINKS"]
    ew.environment["PIP_INDEX_URL"] = index.url
    links = own.directory / "simple"
    ew.environment[place] = str(links / "tiny") if place == "PIP_FIND_LINKS" else links.as_uri()
    ew.run("setup", "--engine", "tiny")
    (module,) = ew.env("ew-tiny").glob("lib/*/site-packages/tiny.py")
    assert "our own" not in module.read_text()


def test_locks_are_made_from_one_registry_alone(tmp_path: Path) -> None:
    file = tmp_path / ".config/pip/pip.conf"
    file.parent.mkdir(parents=True)
    file.write_text(
        "[global]\nindex-url = https://mirror.test\nextra-index-url = file:///own\n"
        "find-links = /wheels\ncert = /ca.pem\n"
    )
    environ = {
        "HOME": str(tmp_path),
        "PIP_FIND_LINKS": "/more",
        "UV_FIND_LINKS": "/yet/more",
        "UV_INDEX": "file:///uv",
        "UV_EXTRA_INDEX_URL": "file:///old",
        "UV_CONFIG_FILE": "/uv.toml",
    }
    alone = registry_alone(environ)
    assert further_places(alone | uv_settings(alone).variables) == []
    assert alone == {
        "HOME": str(tmp_path),
        "PIP_CONFIG_FILE": os.devnull,
        "SSL_CERT_FILE": "/ca.pem",
        "UV_DEFAULT_INDEX": "https://mirror.test",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_NO_CONFIG": "1",
    }


@pytest.mark.parametrize("index", ["file:///own", "/own"])
def test_a_folder_is_no_registry(index: str) -> None:
    with pytest.raises(UserError, match=f"the package index is a folder: {index}"):
        registry_alone({"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": index})


def test_a_place_is_named_without_its_password() -> None:
    environ = {"UV_INDEX": "https://user:secret@one.test/simple", "UV_FIND_LINKS": "/a,/b"}
    assert further_places(environ) == ["https://one.test/simple", "/a", "/b"]


def test_pips_variables_are_passed_on() -> None:
    settings = uv_settings(
        {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": "https://mirror.test/simple",
            "PIP_EXTRA_INDEX_URL": "https://one.test https://two.test",
            "PIP_FIND_LINKS": "/wheels ~/more",
            "PIP_CERT": "/ca.pem",
            "PIP_TRUSTED_HOST": "mirror.test",
            "PIP_DEFAULT_TIMEOUT": "60",
            "PIP_NO_INDEX": "yes",
        }
    )
    assert settings.variables == {
        "UV_DEFAULT_INDEX": "https://mirror.test/simple",
        "UV_INDEX": "https://one.test https://two.test",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": f"/wheels,{Path('~/more').expanduser()}",
        "SSL_CERT_FILE": "/ca.pem",
        "UV_INSECURE_HOST": "mirror.test",
        "UV_HTTP_TIMEOUT": "60",
    }
    assert settings.arguments == ["--no-index"]


def test_pips_files_are_read_and_variables_win(tmp_path: Path) -> None:
    file = tmp_path / ".config/pip/pip.conf"
    file.parent.mkdir(parents=True)
    file.write_text(
        "[global]\nindex-url = https://file.test\ntimeout = 7\n"
        "[install]\nfind_links =\n    /one\n    /two\n"
    )
    environ = {"HOME": str(tmp_path), "PIP_INDEX_URL": "https://variable.test"}
    variables = uv_settings(environ).variables
    assert variables["UV_DEFAULT_INDEX"] == "https://variable.test"
    assert variables["UV_HTTP_TIMEOUT"] == "7"
    assert variables["UV_FIND_LINKS"] == "/one,/two"


def test_what_is_set_for_uv_itself_stays() -> None:
    environ = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": "https://pip.test",
        "PIP_CERT": "/pip.pem",
        "UV_INDEX_URL": "https://uv.test",
        "SSL_CERT_FILE": "/own.pem",
    }
    assert uv_settings(environ).variables == {}


def test_a_broken_configuration_of_pip_is_named(tmp_path: Path) -> None:
    file = tmp_path / "pip.conf"
    file.write_text("index-url = without a section\n")
    with pytest.raises(UserError, match=r"pip\.conf is not a pip configuration"):
        uv_settings({"PIP_CONFIG_FILE": str(file)})
