"""Makes the locks anew from pyproject.toml and deploy/engines/*.json. See scripts/lock.

All use the same lock, so nothing of this machine's may get into it: not its folders of
wheels, which have the files of one Python at best, and not its further indexes. The requirements of
a package with an index of its own are read from a wheel; its hashes are the declared ones.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomllib
from packaging.version import Version

from contract.engines import WORKER_REQUIREMENTS, Release
from orchestrator.environments.declaration import load_engines
from orchestrator.errors import UserError
from orchestrator.packages.installer import InstallFailed, Uv, find_uv, is_reachable
from orchestrator.packages.lock_file import PinnedPackage, read_lock
from orchestrator.packages.pip_settings import registry_alone
from orchestrator.terminal.progress import Progress
from scripts.targets import SDIST, Target, project_targets, targets_of

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
PROJECT = {"ew": [], "dev": ["--group", "dev"]}
#: Packages that tests and scripts use, each list in an environment of its own, and none in ew's.
BESIDE = {
    "clients": ROOT / "tests" / "clients" / "python.in",
    "tools": ROOT / "tests" / "deploy" / "tools.in",
    "site": ROOT / "scripts" / "programs" / "site" / "site.in",
}


class Locksmith:
    """Makes one lock after the other. `wheels` is a folder for packages whose own index does
    not answer."""

    def __init__(self, uv: Uv, progress: Progress, upgrade: bool, wheels: Path | None) -> None:
        self._uv = uv
        self._progress = progress
        self._upgrade = upgrade
        self._wheels = wheels

    def lock_project(self, name: str) -> None:
        """ew.lock, or dev.lock, which has all of ew.lock too."""
        path, targets = DEPLOY / f"{name}.lock", project_targets()
        oldest = min(targets, key=lambda target: Version(target.python))
        arguments = ["pyproject.toml", *PROJECT[name], *universal(oldest.python)]
        with tempfile.TemporaryDirectory() as directory:
            if name != "ew":
                arguments += ["--constraint", str(pins_of(DEPLOY / "ew.lock", Path(directory)))]
            packages = self._resolve(arguments, path, {})
        text = "".join(entry(package, targets, {}, {}) for package in packages)
        self._write(path, f"pyproject.toml ({name})", text)

    def lock_beside(self, name: str) -> None:
        """One of `BESIDE`."""
        targets, wanted = project_targets(), BESIDE[name]
        oldest = min(targets, key=lambda target: Version(target.python))
        path = wanted.with_suffix(".lock")
        packages = self._resolve([str(wanted), *universal(oldest.python)], path, {})
        text = "".join(entry(package, targets, {}, {}) for package in packages)
        self._write(path, wanted.name, text)

    def lock_engine(self, engine: str, release: Release) -> None:
        """One engine's lock, for the Pythons and machines of its declaration."""
        with tempfile.TemporaryDirectory() as directory:
            arguments = [*self._inputs(Path(directory), release), *target_of(release)]
            packages = self._resolve(arguments, release.lock_path, release.prereleases)
        text = "".join(
            entry(package, targets_of(release), release.hashes, release.prereleases)
            for package in packages
        )
        self._write(release.lock_path, f"deploy/engines/{engine}.json and worker.in", text)

    def _inputs(self, directory: Path, release: Release) -> list[str]:
        """Return the input of uv: the declaration, and where its packages come from."""
        wanted = directory / "engine.in"
        wanted.write_text("\n".join(release.requirements) + "\n")
        overrides = directory / "overrides.in"
        overrides.write_text("\n".join(release.overrides) + "\n")
        arguments = [str(wanted), str(WORKER_REQUIREMENTS), "--override", str(overrides)]
        for index, names in release.indexes.items():
            if is_reachable(index):
                arguments += ["--index", index, "--index-strategy", "unsafe-best-match"]
            else:
                arguments += ["--find-links", str(self._only(names, index, directory))]
        return arguments

    def _only(self, names: Sequence[str], index: str, directory: Path) -> Path:
        """A folder that links to the wheels of these packages, and of no others."""
        if self._wheels is None:
            raise UserError(
                f"{index} does not answer, which has {' and '.join(names)}",
                "`--wheels DIR` reads what they need from a wheel there",
            )
        links = directory / "wheels"
        links.mkdir()
        for wheel in self._wheels.glob("*.whl"):
            if wheel.name.partition("-")[0] in names:
                (links / wheel.name).symlink_to(wheel.resolve())
        return links

    def _resolve(
        self, arguments: list[str], present: Path, prereleases: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        """The packages as PEP 751 has them; in the versions of the `present` lock, where that
        is possible and no upgrade is wanted."""
        options = ["--no-header", "--prerelease", "disallow", "--format", "pylock.toml"]
        for name in prereleases:
            options += ["--prerelease-package", f"{name}=allow"]
        with tempfile.TemporaryDirectory() as directory:
            made = Path(directory) / "pylock.toml"
            if present.exists() and not self._upgrade:
                made.write_text(preferences(present))
            command = ["pip", "compile", *options, *arguments, "-o", str(made)]
            self._uv.run(command, self._progress.update)
            packages: list[dict[str, Any]] = tomllib.loads(made.read_text())["packages"]
        return packages

    def _write(self, path: Path, source: str, text: str) -> None:
        if "://" in text:
            raise UserError(f"{path.name} would name a package index", "look at what uv wrote")
        path.write_text(f"# Made by scripts/lock from {source}. Do not edit.\n{text}")
        count = len(read_lock(path).entries)
        self._progress.say(f"{path.relative_to(ROOT)}: {count} packages")


def universal(python: str) -> list[str]:
    return ["--universal", "--python-version", python]


def target_of(release: Release) -> list[str]:
    """A release for one machine is resolved for that one: others may have no files at all."""
    oldest = min(release.pythons, key=Version)
    if len(release.machines) > 1:
        return universal(oldest)
    platform = f"{release.machines[0]}-manylinux_{release.glibc.replace('.', '_')}"
    return ["--python-platform", platform, "--python-version", oldest]


def preferences(lock: Path) -> str:
    """A lock's versions, in the form in which uv takes them for what it should keep."""
    lines = ['lock-version = "1.0"', 'created-by = "ew"']
    for pin in read_lock(lock).pins():
        lines += ["[[packages]]", f'name = "{pin.name}"', f'version = "{pin.version}"']
        lines += [f'marker = "{pin.marker}"'] if pin.marker else []
    return "\n".join(lines)


def pins_of(lock: Path, directory: Path) -> Path:
    """A lock's versions, as a file of constraints."""
    path = directory / "pins.in"
    path.write_text("".join(f"{pin.requirement}\n" for pin in read_lock(lock).pins()))
    return path


def entry(
    package: dict[str, Any],
    targets: list[Target],
    declared: Mapping[str, dict[str, str]],
    prereleases: Mapping[str, str],
) -> str:
    """A package as pip's requirement files have it: with the hashes of the wheels that some of
    the targets can use, or of the source if there is no wheel at all. Empty if no target needs it.
    Raises `UserError` if one would find no file."""
    name, marker = package["name"], package.get("marker", "")
    users = [target for target in targets if target.needs(marker)]
    if not users:
        return ""
    files = declared_files(declared[name]) if name in declared else offered_files(package)
    newest = [target.with_newest_glibc for target in users]
    files = {
        digest: tags
        for digest, tags in files.items()
        if any(target.can_use(tags) for target in newest)
    }
    lacking = [str(target) for target in users if not any(map(target.can_use, files.values()))]
    if lacking:
        raise UserError(
            f"{name} {package['version']} has no wheel for {', '.join(lacking)}",
            "leave the Python or machine out of the declaration, or ask for another version",
        )
    return written(package, files, prereleases.get(name))


def declared_files(hashes: dict[str, str]) -> dict[str, str]:
    return {digest: tags for tags, digest in hashes.items()}


def offered_files(package: dict[str, Any]) -> dict[str, str]:
    """The tags of all wheels by their hash; of the source if that is all there is."""
    wheels = package.get("wheels", ())
    if not wheels:
        return {package["sdist"]["hashes"]["sha256"]: SDIST}
    return {wheel["hashes"]["sha256"]: tags_of(Path(wheel["url"]).name) for wheel in wheels}


def tags_of(wheel: str) -> str:
    return "-".join(wheel.removesuffix(".whl").rsplit("-", 3)[1:])


def written(package: dict[str, Any], files: dict[str, str], reason: str | None) -> str:
    """An entry's text; `reason` is why there may be a pre-release."""
    pin = PinnedPackage(package["name"], package["version"], package.get("marker", ""), files)
    ordered = sorted(files.items(), key=lambda file: (file[1], file[0]))
    lines = [pin.requirement, *(f"    --hash=sha256:{digest}" for digest, _ in ordered)]
    notes = [f"    # {digest[:8]} {tags}\n" for digest, tags in ordered]
    if Version(pin.version).is_prerelease:
        notes.insert(0, f"    # a pre-release: {reason}\n")
    return " \\\n".join(lines) + "\n" + "".join(notes)


def wanted_releases(wanted: list[str]) -> Iterator[tuple[str, Release]]:
    for name, engine in load_engines().items():
        for version, release in engine.releases.items():
            if release.lock and (not wanted or {name, f"{name}@{version}"} & set(wanted)):
                yield name, release


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/lock")
    parser.add_argument(
        "what",
        nargs="*",
        help="ew, dev, clients, tools, site, ENGINE or ENGINE@VERSION; all if none",
    )
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    parser.add_argument(
        "--wheels",
        type=Path,
        help="read what a package with an index of its own needs from a wheel in this folder, if "
        "that index does not answer; its hashes are the declared ones all the same",
    )
    options = parser.parse_args()
    os.chdir(ROOT)
    progress = Progress()
    try:
        uv = Uv(str(find_uv()), environ=registry_alone())
        locksmith = Locksmith(uv, progress, options.upgrade, options.wheels)
        for name in PROJECT:
            if not options.what or name in options.what:
                locksmith.lock_project(name)
        for name in BESIDE:
            if not options.what or name in options.what:
                locksmith.lock_beside(name)
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
