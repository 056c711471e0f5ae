"""The locks have a file for every Python and machine that they are declared for.

All that is read is what stands in a lock: a hash counts for the wheel whose tags are beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.version import Version

from contract.paths import ROOT
from orchestrator.environments.declaration import load_engines
from orchestrator.packages.lock_file import read_lock
from scripts.targets import SDIST, Target, project_targets, targets_of

DEPLOY = ROOT / "deploy"
#: Sources that are built on the user's machine: what has no wheel at all.
SOURCES = {"cuda-trt-1.3.0rc29.lock": {"llist", "tensorrt-llm"}}


def locks() -> Iterator[tuple[Path, list[Target], dict[str, str]]]:
    """Yield each with what it is declared for, and the reasons for its pre-releases."""
    for name in ("ew", "dev"):
        yield DEPLOY / f"{name}.lock", project_targets(), {}
    for engine in load_engines().values():
        for release in engine.releases.values():
            if release.lock:
                yield release.lock_path, targets_of(release), release.prereleases


LOCKS = [pytest.param(*each, id=each[0].stem) for each in locks()]


def missing(lock: Path, target: Target) -> Iterator[str]:
    """Yield the packages that are needed there, and of which the lock has no file."""
    for pin in read_lock(lock).pins():
        if target.needs(pin.marker) and not any(map(target.can_use, pin.files.values())):
            yield pin.requirement


@pytest.mark.parametrize(("lock", "targets", "_reasons"), LOCKS)
def test_every_declared_python_and_machine_finds_its_files(
    lock: Path, targets: list[Target], _reasons: dict[str, str]
) -> None:
    lacking = {str(target): list(missing(lock, target)) for target in targets}
    assert {target: names for target, names in lacking.items() if names} == {}


@pytest.mark.parametrize(("lock", "_targets", "_reasons"), LOCKS)
def test_every_hash_says_whose_it_is(
    lock: Path, _targets: list[Target], _reasons: dict[str, str]
) -> None:
    pins = read_lock(lock).pins()
    assert [pin.name for pin in pins if not pin.files or "" in pin.files.values()] == []
    sources = {pin.name for pin in pins if SDIST in pin.files.values()}
    assert sources == SOURCES.get(lock.name, set())


@pytest.mark.parametrize(("lock", "_targets", "reasons"), LOCKS)
def test_a_pre_release_is_declared_with_its_reason(
    lock: Path, _targets: list[Target], reasons: dict[str, str]
) -> None:
    pins = read_lock(lock).pins()
    assert {pin.name for pin in pins if Version(pin.version).is_prerelease} == reasons.keys()
    assert all(reasons.values())


def test_every_lock_is_looked_at() -> None:
    assert {lock for lock, *_ in locks()} == set(DEPLOY.rglob("*.lock"))


def test_a_lock_of_one_machines_wheels_is_seen_through(tmp_path: Path) -> None:
    """As a folder of wheels that pip is set up to look into would make it."""
    digest = "a6db3806" + 56 * "0"
    lock = tmp_path / "one.lock"
    lock.write_text(
        f"msgspec==0.22.0 \\\n    --hash=sha256:{digest}\n"
        "    # a6db3806 cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64\n"
    )
    assert list(missing(lock, Target("3.11", "x86_64", 28))) == []
    for elsewhere in (Target("3.12", "x86_64", 28), Target("3.11", "aarch64", 28)):
        assert list(missing(lock, elsewhere)) == ["msgspec==0.22.0"]


@pytest.mark.parametrize(
    ("tags", "usable"),
    [
        ("py3-none-any", True),
        ("cp39-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64", True),
        ("cp312-cp312-manylinux_2_28_x86_64", True),
        ("cp312-cp312-manylinux_2_34_x86_64", False),
        ("cp312-cp312-musllinux_1_2_x86_64", False),
        ("cp312-cp312-macosx_11_0_arm64", False),
        ("cp313-cp313t-manylinux_2_28_x86_64", False),
        ("cp313-abi3-manylinux_2_28_x86_64", False),
    ],
)
def test_what_a_python_on_a_machine_can_use(tags: str, usable: bool) -> None:
    assert Target("3.12", "x86_64", 28).can_use(tags) is usable


@pytest.mark.parametrize(
    ("marker", "needed"),
    [
        ("", True),
        ("python_full_version < '3.11.3'", True),
        ("python_full_version >= '3.12'", False),
        ("sys_platform == 'win32'", False),
        ("platform_machine == 'aarch64' and sys_platform == 'linux'", True),
    ],
)
def test_what_a_python_on_a_machine_needs(marker: str, needed: bool) -> None:
    assert Target("3.11", "aarch64", 28).needs(marker) is needed


def test_the_package_says_which_pythons_it_is_locked_for() -> None:
    text = (ROOT / "scripts/bootstrap").read_text()
    newest = max(int(target.python.partition(".")[2]) for target in project_targets())
    assert re.search(rf"\(3, 11\) <= .* < \(3, {newest + 1}\)", text)
