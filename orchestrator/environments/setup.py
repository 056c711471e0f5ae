"""Makes engine environments: looks whether it can work, builds, proves, and only then declares
the environment complete."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from contract.logs.rotation import open_privately
from contract.paths import IS_CLONE, ROOT
from orchestrator.environments.conda import Conda
from orchestrator.environments.environment import Environment, holding, write_stamp
from orchestrator.environments.installation import Installation, installations
from orchestrator.environments.preflight import Check, preflight
from orchestrator.environments.removal import clear, conda_marker, refuse_if_used
from orchestrator.environments.smoke_test import SmokeTest, prove
from orchestrator.environments.spec import EnvironmentSpec, environment_spec
from orchestrator.errors import UserError
from orchestrator.packages.installer import InstallFailed, Uv, find_uv
from orchestrator.terminal.progress import Say, clock
from orchestrator.terminal.speech import say as say_plainly


def set_up(
    engine: str,
    env_name: str | None = None,
    *,
    version: str | None = None,
    manager: str | None = None,
    wheelhouse: Path | None = None,
    force: bool = False,
    say: Say = say_plainly,
    progress: Callable[[str], None] | None = None,
) -> Environment:
    """Make an engine's environment, or find it made. Blocks for minutes.

    `engine` may name a version: `cuda-vllm@0.26.0`. `say` gets a line for each step; `progress`,
    twice a second, how far the step is. `force` goes on where the preflight found something
    missing. Raises `UserError`; what is then half made is never used, and made anew by the
    next call.
    """
    spec = environment_spec(
        engine, env_name, version=version, manager=manager, wheelhouse=wheelhouse
    )
    return carry_out(spec, force=force, say=say, progress=progress or (lambda _: None))


def carry_out(
    spec: EnvironmentSpec, *, force: bool, say: Say, progress: Callable[[str], None]
) -> Environment:
    """As `set_up`."""
    made = spec.made()
    if made is not None:
        return made
    with holding(spec.name, say) as descriptor:
        return spec.made() or Builder(spec, require_uv(descriptor), say, progress).build(force)


def preflight_of(spec: EnvironmentSpec, uv: Uv) -> Iterator[Check]:
    """Yield what is looked at before anything is made."""
    interpreter = None if spec.conda else uv.find_python(spec.release.pythons)
    online = None if spec.wheelhouse or uv.is_offline else uv
    if spec.conda is None:
        yield _interpreter_check(spec, interpreter, can_fetch=online is not None)
    yield from preflight(spec.engine, spec.release, python=interpreter, uv=online)


def require_uv(descriptor: int | None = None) -> Uv:
    """Return the locked uv. `descriptor` is for whatever it runs to inherit."""
    program = find_uv()
    if program is None:
        cure = "delete .venv and run `./ew` again" if IS_CLONE else "install ew again"
        raise UserError("uv is missing from ew's own environment", cure)
    return Uv(program, [] if descriptor is None else [descriptor])


class Builder:
    """Makes one environment."""

    def __init__(
        self, spec: EnvironmentSpec, uv: Uv, say: Say, progress: Callable[[str], None]
    ) -> None:
        self._spec = spec
        self._uv = uv
        self._say = say
        self._progress = progress
        self._started = time.monotonic()

    def build(self, force: bool) -> Environment:
        spec = self._spec
        refuse_if_used(spec.name)
        _require_fit(list(preflight_of(spec, self._uv)), self._say, force)
        with open_privately(spec.log) as log:
            log.truncate(0)
        clear(spec.path)
        if spec.conda:
            self._make_with_conda(spec.conda)
        else:
            self._make()
        for number, installation in enumerate(installations(spec.release, spec.wheelhouse), 1):
            self._install(installation, number)
        self._say(f"proving that {spec.engine.library} works")
        return self._complete(prove(spec.engine, python_of(spec), spec.log))

    def _make(self) -> None:
        interpreter = self._uv.find_python(self._spec.release.pythons)
        self._say(f"making {self._spec.path} with {interpreter or 'a Python that uv fetches'}")
        command = venv_command(self._spec, interpreter)
        self._log(command, lambda: self._uv.run(command, self._progress))

    def _make_with_conda(self, conda: Conda) -> None:
        name, version = self._spec.name, self._spec.release.pythons[0]
        if conda.prefix(name) is not None:
            raise UserError(
                f"{conda.name} has an environment `{name}` that ew did not make",
                f"choose another `--env`, or `{conda.name} env remove -n {name}`",
            )
        self._say(f"making `{name}` with {conda.name} and Python {version}")
        conda_marker(self._spec.path).write_text(conda.name)
        self._spec.path.symlink_to(
            conda.create(name, version, self._progress, self._uv.descriptors)
        )

    def _install(self, installation: Installation, number: int) -> None:
        self._say(f"installing {installation.title}")
        file = requirements_file(self._spec, number)
        file.write_text(installation.requirements)
        command = install_command(self._spec, self._uv, installation, file)
        self._log(command, lambda: self._uv.install(command, self._progress, installation.index))

    def _log(self, command: list[str], run: Callable[[], str]) -> None:
        """Run uv, and write down what it says. Raises `UserError`."""
        try:
            output = run()
        except InstallFailed as error:
            self._say(f"uv {' '.join(command[:2])} failed")
            _append(self._spec.log, error.output)
            raise _failure(self._spec, self._uv, error) from None
        _append(self._spec.log, output)

    def _complete(self, smoke_test: SmokeTest) -> Environment:
        spec = self._spec
        environment = Environment(
            name=spec.name,
            engine=spec.engine.engine,
            version=spec.release.version,
            manager=spec.manager,
            versions=smoke_test.versions,
            device=smoke_test.device,
            digest=spec.release.digest,
            created_unix_s=time.time(),
            path=spec.path.resolve(),
        )
        if smoke_test.problem:
            problem = f"the demo model did not answer: {smoke_test.problem}"
            self._say(f"warning: {problem} (see {spec.log})")
        write_stamp(environment)
        elapsed = clock(time.monotonic() - self._started)
        made = f"{spec.release.version} on {smoke_test.device} ({elapsed})"
        self._say(f"{spec.name} is ready: {made}")
        return environment


def venv_command(spec: EnvironmentSpec, interpreter: Path | None) -> list[str]:
    """Without an interpreter uv fetches the preferred one."""
    python = str(interpreter or spec.release.pythons[0])
    return ["venv", "--no-project", "--python", python, str(spec.path)]


def install_command(
    spec: EnvironmentSpec, uv: Uv, installation: Installation, requirements: Path
) -> list[str]:
    # uv takes no flag twice, and an installation from a wheelhouse may have PIP_NO_INDEX set, too.
    arguments = [each for each in installation.arguments if each not in uv.arguments]
    options = ["--python", str(python_of(spec)), *uv.arguments, *arguments]
    return ["pip", "install", *options, "-r", str(requirements)]


def python_of(spec: EnvironmentSpec) -> Path:
    return spec.path.resolve() / "bin" / "python"


def requirements_file(spec: EnvironmentSpec, number: int) -> Path:
    """Return what a call of uv installs; it stays in the environment for later reading."""
    return spec.path / f"ew-requirements-{number}.txt"


def _interpreter_check(
    spec: EnvironmentSpec, interpreter: Path | None, *, can_fetch: bool
) -> Check:
    wanted = " or ".join(spec.release.pythons)
    if interpreter is not None:
        return Check("Python", str(interpreter))
    if can_fetch:
        return Check("Python", f"no {wanted} here; uv fetches {spec.release.pythons[0]}")
    return Check("Python", f"no {wanted} here", "install one of them", is_fatal=True)


def _require_fit(checks: list[Check], say: Say, force: bool) -> None:
    """Say what is to be minded. Raises `UserError`, with everything that is missing."""
    missing = [check for check in checks if check.is_fatal]
    for check in checks:
        if check.fix and (force or not check.is_fatal):
            say(f"warning: {check.what}: {check.seen} ({check.fix})")
    if missing and not force:
        lines = "".join(f"\n  {check.what}: {check.seen}\n    {check.fix}" for check in missing)
        raise UserError(
            f"the environment would not work here:{lines}",
            "mend that, or go on at your own risk with `--force`",
        )


def _failure(spec: EnvironmentSpec, uv: Uv, error: InstallFailed) -> UserError:
    name = _named(spec.release.lock_path) if spec.release.lock else "REQUIREMENTS"
    if error.mismatch:
        places = [str(spec.wheelhouse)] if spec.wheelhouse else uv.places
        return error.mismatch.error(name, places)
    causes = "".join(f"\n  | {line}" for line in error.causes)
    return UserError(f"`{spec.name}` could not be made:{causes}", _hint(spec, name))


def _hint(spec: EnvironmentSpec, requirements: str) -> str:
    """Say where packages can come from. Their files differ between Pythons, so it names one."""
    python = next((spec.path / "bin").glob("python3.*"), python_of(spec)).name
    fill = f"`{python} -m pip download --no-deps --require-hashes -r {requirements} -d"
    if spec.wheelhouse:
        way = f"{fill} {spec.wheelhouse}`, where there is a network, gets every file that it needs"
    else:
        way = (
            "without a network, set PIP_INDEX_URL to a mirror or give `--wheelhouse DIR`; where "
            f"there is a network, {fill} DIR` fills it"
        )
    return f"{way} (all output: {spec.log})"


def _named(lock: Path) -> str:
    """Return a lock as commands can name it: from the clone, or in full."""
    return str(lock.relative_to(ROOT) if IS_CLONE else lock)


def _append(log: Path, text: str) -> None:
    with log.open("a") as file:
        file.write(text)
