"""Makes the locks anew from pyproject.toml and deploy/engines/*.json. See scripts/lock."""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tomllib

from orchestrator.environments.declaration import WORKER_REQUIREMENTS, Release, load_engines
from orchestrator.environments.installer import InstallFailed, Uv, find_uv, is_reachable
from orchestrator.environments.lock_file import read_lock
from orchestrator.environments.progress import Progress
from orchestrator.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
UNIVERSAL = ("--universal", "--python-version", "3.11")
PROJECT = {"ew": [], "dev": ["--group", "dev", "--constraint", "deploy/ew.lock"]}
OTHER_SYSTEM = re.compile(r"sys_platform == '(?!linux)|platform_machine == '(?!x86_64|aarch64)")


class Locksmith:
    """Makes one lock after the other."""

    def __init__(self, uv: Uv, progress: Progress, upgrade: bool) -> None:
        self._uv = uv
        self._progress = progress
        self._upgrade = ["--upgrade"] if upgrade else []

    def lock_project(self, name: str, arguments: list[str]) -> None:
        """ew.lock or dev.lock, for every system that Python packages are made for."""
        path = DEPLOY / f"{name}.lock"
        with tempfile.TemporaryDirectory() as directory:
            scratch = Path(directory) / path.name
            if path.exists():
                scratch.write_text(path.read_text())
            self._compile(
                ["pyproject.toml", *arguments, *UNIVERSAL, "--generate-hashes", "-o", str(scratch)]
            )
            self._write(path, f"pyproject.toml ({name})", scratch.read_text())

    def lock_engine(self, engine: str, release: Release) -> None:
        """One engine's lock, for the systems and Pythons of its declaration."""
        with tempfile.TemporaryDirectory() as directory:
            requirements = self._inputs(Path(directory), release)
            made = Path(directory) / "pylock.toml"
            target = UNIVERSAL if len(release.machines) > 1 else platform_of(release)
            self._compile([*requirements, *target, "--format", "pylock.toml", "-o", str(made)])
            packages = tomllib.loads(made.read_text())["packages"]
        text = "".join(entry(package, release) for package in packages)
        self._write(release.lock_path, f"deploy/engines/{engine}.json and worker.in", text)

    def _inputs(self, directory: Path, release: Release) -> list[str]:
        """What uv shall resolve: the declaration, and the versions of the present lock."""
        wanted = directory / "engine.in"
        wanted.write_text("\n".join(release.requirements) + "\n")
        overrides = directory / "overrides.in"
        overrides.write_text("\n".join(release.overrides) + "\n")
        arguments = [str(wanted), str(WORKER_REQUIREMENTS), "--override", str(overrides)]
        for index in release.indexes:
            if is_reachable(index):
                arguments += ["--index", index, "--index-strategy", "unsafe-best-match"]
        if release.lock_path.exists() and not self._upgrade:
            preferred = directory / "preferred.in"
            preferred.write_text(present_pins(release))
            arguments += ["--constraint", str(preferred)]
        return arguments

    def _compile(self, arguments: list[str]) -> None:
        command = ["pip", "compile", "--no-header", *self._upgrade, *arguments]
        self._uv.run(command, self._progress.update)

    def _write(self, path: Path, source: str, text: str) -> None:
        if "://" in text:
            raise UserError(f"{path.name} would name a package index", "look at what uv wrote")
        path.write_text(f"# Made by scripts/lock from {source}. Do not edit.\n{text}")
        count = len(read_lock(path).entries)
        self._progress.say(f"{path.relative_to(ROOT)}: {count} packages")


def entry(package: dict[str, Any], release: Release) -> str:
    """A package as pip's requirement files have it, with the hashes of the files that can be
    meant: wheels for the release's Pythons and machines, or the source if there are none."""
    name, marker = package["name"], package.get("marker", "")
    hashes = release.hashes.get(name) or wheel_hashes(package, release)
    if not hashes and "sdist" in package:
        hashes = {"sdist": package["sdist"]["hashes"]["sha256"]}
    if not hashes:
        if not OTHER_SYSTEM.search(marker):
            raise UserError(f"{name} has no file for {release.machines}", "leave the machine out")
        return ""
    pin = f"{name}=={package['version']}" + (f" ; {marker}" if marker else "")
    lines = [pin, *(f"    --hash=sha256:{digest}" for digest in sorted(set(hashes.values())))]
    return " \\\n".join(lines) + "\n"


def wheel_hashes(package: dict[str, Any], release: Release) -> dict[str, str]:
    """By file name."""
    files = {Path(wheel["url"]).name: wheel for wheel in package.get("wheels", ())}
    return {name: wheel["hashes"]["sha256"] for name, wheel in files.items() if fits(name, release)}


def fits(wheel: str, release: Release) -> bool:
    """Whether a wheel runs on one of the release's Pythons and machines, with glibc."""
    pythons, abi, platforms = wheel.removesuffix(".whl").rsplit("-", 3)[1:]
    interpreters = {f"cp{version.replace('.', '')}" for version in release.pythons}
    if abi in ("none", "abi3"):
        fits_python = any(tag.startswith(("py3", "cp3")) for tag in pythons.split("."))
    else:
        fits_python = abi in interpreters
    return fits_python and any(
        platform == "any" or is_linux(platform, release.machines)
        for platform in platforms.split(".")
    )


def is_linux(platform: str, machines: tuple[str, ...]) -> bool:
    return platform.startswith(("linux", "manylinux")) and platform.endswith(machines)


def platform_of(release: Release) -> tuple[str, ...]:
    machine, glibc = release.machines[0], release.glibc.replace(".", "_")
    platform = f"{machine}-manylinux_{glibc}"
    return ("--python-platform", platform, "--python-version", release.pythons[0])


def present_pins(release: Release) -> str:
    lines = release.lock_path.read_text().splitlines()
    return "\n".join(line.rstrip("\\ ") for line in lines if not line.startswith((" ", "#")))


def wanted_releases(wanted: list[str]) -> Iterator[tuple[str, Release]]:
    for name, engine in load_engines().items():
        for version, release in engine.releases.items():
            if release.lock and (not wanted or {name, f"{name}@{version}"} & set(wanted)):
                yield name, release


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/lock")
    parser.add_argument("what", nargs="*", help="ew, dev, ENGINE or ENGINE@VERSION; all if none")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    options = parser.parse_args()
    uv = find_uv()
    if uv is None:
        print("error: uv is needed\nhint: run scripts/bootstrap first", file=sys.stderr)
        return 1
    os.chdir(ROOT)
    progress = Progress()
    locksmith = Locksmith(Uv(uv), progress, options.upgrade)
    try:
        for name, arguments in PROJECT.items():
            if not options.what or name in options.what:
                locksmith.lock_project(name, arguments)
        for engine, release in wanted_releases(options.what):
            progress.say(f"{engine} {release.version}")
            locksmith.lock_engine(engine, release)
    except InstallFailed as error:
        print(error.output, file=sys.stderr)
        return 1
    except UserError as error:
        print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
