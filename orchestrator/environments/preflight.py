"""Checks before an engine's environment is made, each with the cure."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from contract.engines import EngineDeclaration, Release
from contract.paths import state_dir
from orchestrator.gpu.nvml.client import FIRST_ANSWER_S, Nvml
from orchestrator.packages.installer import InstallFailed, Uv, is_reachable

_GIB: Final = 2**30
#: A small package that every environment gets.
_SAMPLE: Final = "msgspec"


class Check(NamedTuple):
    """One thing that was looked at. `fix` is set where something should be done about it;
    `is_fatal`: without that it cannot work."""

    what: str
    seen: str
    fix: str = ""
    is_fatal: bool = False


def preflight(
    engine: EngineDeclaration, release: Release, *, python: Path | None = None, uv: Uv | None = None
) -> Iterator[Check]:
    """Look at everything that the release needs; takes about a second. With `uv`, also whether
    packages can be fetched; with `python`, whether it can compile extensions."""
    yield _machine(release)
    if release.glibc:
        yield _glibc(release)
    yield _disk(release)
    if engine.device == "cuda":
        yield _driver(release)
    for need in release.needs:
        yield from _NEEDS[need](release, python)
    if uv:
        yield _network(uv)
        yield from map(_index, release.indexes)
    yield from (Check("known", each.warning, each.advice) for each in release.warnings)


def describe(checks: Collection[Check]) -> Iterator[str]:
    """One line for each, and one for what is to be done."""
    width = max((len(check.what) for check in checks), default=0)
    for check in checks:
        verdict = "error" if check.is_fatal else "warning" if check.fix else "ok"
        yield f"  {verdict:7}  {check.what:{width}}  {check.seen}"
        if check.fix:
            yield f"{'':{width + 13}}{check.fix}"


def _machine(release: Release) -> Check:
    seen = f"{platform.system()} {platform.machine()}"
    if platform.system() == "Linux" and platform.machine() in release.machines:
        return Check("machine", seen)
    machines = " or ".join(release.machines)
    return Check("machine", seen, f"it needs Linux on {machines}", is_fatal=True)


def _glibc(release: Release) -> Check:
    name, version = platform.libc_ver()
    if name == "glibc" and _number(version) >= _number(release.glibc):
        return Check("C library", f"glibc {version}")
    fix = f"it needs glibc >= {release.glibc}: a newer system, or a container of one"
    return Check("C library", f"{name or 'not glibc'} {version}".strip(), fix, is_fatal=True)


def _disk(release: Release) -> Check:
    place = next(path for path in (state_dir(), *state_dir().parents) if path.exists())
    free_gib = shutil.disk_usage(place).free / _GIB
    seen = f"{free_gib:.0f} GiB free on {place}; about {release.disk_gib} GiB are needed"
    if free_gib >= release.disk_gib:
        return Check("disk", seen)
    return Check("disk", seen, "make room, or set EW_STATE_DIR to a larger disk", is_fatal=True)


def _driver(release: Release) -> Check:
    driver = Nvml().snapshot(FIRST_ANSWER_S)
    if not driver.gpus:
        fix = "install the NVIDIA driver; in a container, run it with `--gpus all`"
        return Check("NVIDIA driver", "no NVIDIA GPU is seen", fix, is_fatal=True)
    names = ", ".join(gpu.name for gpu in driver.gpus)
    seen = f"{driver.driver_version} (CUDA {driver.cuda_version}), {names}"
    if release.cuda and _number(driver.cuda_version) < _number(release.cuda):
        fix = f"{release.version} needs a driver for CUDA >= {release.cuda}: update the driver"
        return Check("NVIDIA driver", seen, fix, is_fatal=True)
    return Check("NVIDIA driver", seen)


def _cuda_home(_release: Release, _python: Path | None) -> Iterator[Check]:
    home = os.environ.get("CUDA_HOME", "")
    if home and Path(home, "bin/nvcc").exists():
        yield Check("CUDA toolkit", home)
        return
    usual = Path("/usr/local/cuda")
    seen = f"CUDA_HOME is {home or 'not set'}"
    if usual.exists():
        yield Check("CUDA toolkit", seen, f"`export CUDA_HOME={usual}`", is_fatal=True)
    else:
        fix = "install the CUDA toolkit and set CUDA_HOME to where it is"
        yield Check("CUDA toolkit", seen, fix, is_fatal=True)


def _openmpi(_release: Release, _python: Path | None) -> Iterator[Check]:
    yield _library("Open MPI", "libmpi.so", "libopenmpi-dev")


def _numa(_release: Release, _python: Path | None) -> Iterator[Check]:
    yield _library("libnuma", "libnuma.so.1", "libnuma1")


def _library(what: str, name: str, package: str) -> Check:
    try:
        ctypes.CDLL(name)
    except OSError:
        return Check(what, f"no {name}", f"`apt install {package}`", is_fatal=True)
    return Check(what, name)


def _compiler(_release: Release, _python: Path | None) -> Iterator[Check]:
    found = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if found:
        yield Check("C compiler", found)
    else:
        fix = "the engine compiles kernels when it starts: `apt install gcc`"
        yield Check("C compiler", "none on the PATH", fix, is_fatal=True)


def _headers(_release: Release, python: Path | None) -> Iterator[Check]:
    if python is None:
        return
    code = "import sysconfig; print(sysconfig.get_path('include'))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    header = Path(done.stdout.strip(), "Python.h")
    if header.exists():
        yield Check("Python headers", str(header))
    else:
        fix = "the engine compiles against them: `apt install python3-dev`"
        yield Check("Python headers", f"no {header}", fix, is_fatal=True)


def _network(uv: Uv) -> Check:
    """Asks for one package, as the installation will: with its mirrors and certificates."""
    command = ["pip", "install", "--dry-run", "--no-deps", "--reinstall", "--refresh"]
    command += ["--python", sys.executable, _SAMPLE]
    try:
        uv.run(command, lambda _: None, {"UV_HTTP_RETRIES": "0"})
    except InstallFailed as error:
        fix = (
            "set PIP_INDEX_URL to a mirror that can be reached, or give a folder of wheels with "
            "`--wheelhouse`"
        )
        seen = f"{error.causes[0]}; {error.causes[-1]}"
        return Check("package index", seen, fix, is_fatal=True)
    return Check("package index", "answers")


def _index(url: str) -> Check:
    if is_reachable(url):
        return Check("extra index", f"{url} answers")
    fix = "its packages must then be in a folder named by PIP_FIND_LINKS, or on your mirror"
    return Check("extra index", f"{url} does not answer", fix)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


_NEEDS: Final[dict[str, Callable[[Release, Path | None], Iterator[Check]]]] = {
    "cuda-home": _cuda_home,
    "libnuma": _numa,
    "openmpi": _openmpi,
    "compiler": _compiler,
    "python-headers": _headers,
}
