"""The engines that ew declares: deploy/engines/*.json and their locks."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.engines import ENGINES_DIR, WORKER_REQUIREMENTS, EngineDeclaration, Release
from orchestrator.environments import default_env_name, resolve_engine
from orchestrator.environments.declaration import find_engine, find_release, load_engines
from orchestrator.environments.preflight import _NEEDS
from orchestrator.errors import UserError
from orchestrator.packages.lock_file import normalised, read_lock

ROOT = Path(__file__).resolve().parents[3]


def releases() -> Iterator[tuple[EngineDeclaration, Release]]:
    for engine in load_engines().values():
        for release in engine.releases.values():
            yield engine, release


RELEASES = [
    pytest.param(engine, release, id=f"{engine.engine}-{release.version}")
    for engine, release in releases()
]


def test_engines_with_releases_are_those_that_can_be_set_up() -> None:
    assert {"cpu-vllm", "cuda-trt"} <= load_engines().keys()
    assert not {"mock", "openai"} & load_engines().keys()


@pytest.mark.parametrize(("engine", "release"), RELEASES)
def test_each_release_is_locked_or_says_why_not(
    engine: EngineDeclaration, release: Release
) -> None:
    assert engine.default_version in engine.releases
    assert release.disk_gib > 0
    assert set(release.needs) <= _NEEDS.keys()
    assert bool(release.lock) != bool(release.why_no_lock)


@pytest.mark.parametrize(("engine", "release"), [each for each in RELEASES if each.values[1].lock])
def test_each_lock_is_complete_and_hashed(engine: EngineDeclaration, release: Release) -> None:
    entries = read_lock(release.lock_path).entries
    assert all("--hash=sha256:" in entry for entry in entries.values())
    wanted = {re.split(r"[\[<>=~!]", each)[0] for each in release.requirements}
    needed = re.findall(r"^[a-z][a-z0-9-]*", WORKER_REQUIREMENTS.read_text(), re.MULTILINE)
    assert {normalised(engine.distribution), *wanted, *needed} <= entries.keys()
    assert release.from_own_index <= entries.keys()
    for name, hashes in release.hashes.items():
        assert all(digest in entries[name] for digest in hashes.values())


@pytest.mark.parametrize(
    "path", sorted(ENGINES_DIR.parent.rglob("*.lock")), ids=lambda path: path.name
)
def test_no_lock_names_an_index(path: Path) -> None:
    assert "://" not in path.read_text()


def test_vllm_on_the_cpu_brings_nothing_for_gpus() -> None:
    entries = read_lock(find_release(find_engine("cpu-vllm"), None).lock_path).entries
    assert not [name for name in entries if name.startswith(("nvidia", "cuda", "triton"))]
    assert "+cpu" in entries["torch"]


def test_an_unknown_engine_is_named() -> None:
    with pytest.raises(UserError, match="no environment can be set up for the engine `mock`"):
        find_engine("mock")


def test_names_tell_the_engine_and_an_unusual_version() -> None:
    assert default_env_name("cuda-vllm") == "ew-cuda-vllm"
    assert default_env_name("cuda-vllm", "0.33.0") == "ew-cuda-vllm"
    assert default_env_name("cuda-vllm", "0.26.0") == "ew-cuda-vllm-0.26.0"
    assert resolve_engine("cuda-trt") == "cuda-trt"


@pytest.mark.vllm
@pytest.mark.timeout(600)
def test_vllm_on_the_cpu_is_set_up_for_real() -> None:
    """In the project itself: once, for all tests, and for users of ew in this folder."""
    command = [str(ROOT / "ew"), "setup", "--engine", "cpu-vllm", "--manager", "uv"]
    subprocess.run(command, check=True)
    again = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "there already" in again.stderr
    python = ROOT / ".ew/envs/ew-cpu-vllm/bin/python"
    code = "import vllm; print(vllm.__version__)"
    answer = subprocess.run([python, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.split()[-1] == find_engine("cpu-vllm").default_version
