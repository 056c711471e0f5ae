"""`ew service`: everything as one systemd unit, which starts with the machine.

The supervisor is the unit's main process. systemd signals that alone (`KillMode=process`): if the
supervisor dies, workers and gateway go on, and the next supervisor takes them over; `ExecStop`
ends them in their order, with their answers.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

from contract.paths import IS_CLONE, ROOT, logs_dir, project_dir, state_dir
from contract.process.host_name import VARIABLE
from orchestrator.client.connect import supervisor_command
from orchestrator.client.reach import is_running
from orchestrator.errors import UserError
from orchestrator.system.files import write_atomically
from orchestrator.system.process import open_log
from orchestrator.system.service_manager import VARIABLES

_SYSTEM_UNITS: Final = Path("/etc/systemd/system")
#: Exit code of a unit's process that would be refused again.
REFUSED: Final = 78
#: Variables for the unit's processes, one NAME=VALUE a line: secrets that the configuration names.
ENVIRONMENT_FILE: Final = "service.env"
_ALIVE: Final = ("active", "activating", "reloading", "deactivating")
_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.@-]{0,63}")
_PLACES: Final = ("EW_HOME", "EW_STATE_DIR", "EW_CONFIG", "EW_LOG_LEVEL", VARIABLE)
_TEMPLATE: Final = """\
# Made by `ew service install`, which writes it anew. Changes belong into `systemctl edit {name}`.
[Unit]
Description=ew: a gateway in front of LLM engines ({project})
After=network-online.target nvidia-persistenced.service
Wants=network-online.target
StartLimitIntervalSec=60
StartLimitBurst=10

[Service]
Type=notify
{user}WorkingDirectory={project}
{environment}EnvironmentFile=-{environment_file}
ExecStart={ew} service run
ExecStartPost=-{ew} start --unless-running
ExecReload={ew} reload
ExecStop={ew} stop
# Models take their time to load, and open answers to end; ew has limits of its own for both.
TimeoutStartSec=infinity
TimeoutStopSec=infinity
Restart=on-failure
RestartSec=1
RestartPreventExitStatus={refused}
WatchdogSec=60
# Only the supervisor is signalled: without it, the others serve on, and the next one finds them.
KillMode=process
# The kernel may end one worker for want of memory; that is no reason to end the others.
OOMPolicy=continue
TasksMax=infinity
LimitNOFILE=524288
UMask=0077
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
{hardening}
[Install]
WantedBy={wanted_by}
"""
#: Settings that only the system's manager can apply to a unit. Not here, since engines need it:
#: writable and executable memory (compiled kernels), the GPUs' device files, shared memory and
#: /tmp.
_HARDENING: Final = """\
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=full
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictNamespaces=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
"""


class Service(NamedTuple):
    """One unit of one manager: the system's, or the user's own."""

    name: str
    is_system: bool

    @property
    def path(self) -> Path:
        if self.is_system:
            return _SYSTEM_UNITS / f"{self.name}.service"
        home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
        return Path(home) / "systemd" / "user" / f"{self.name}.service"

    def systemctl(self, *arguments: str) -> str:
        """Return what systemctl says. Raises `UserError` with its own words if it fails."""
        program = shutil.which("systemctl")
        if program is None:
            raise UserError(
                "this host has no systemd", "`./ew start` runs in the background without one"
            )
        scope = [] if self.is_system else ["--user"]
        done = subprocess.run(
            [program, *scope, *arguments], capture_output=True, text=True, check=False
        )
        if done.returncode and arguments[0] not in ("is-active", "is-enabled"):
            said = done.stderr.strip() or f"systemctl ended with {done.returncode}"
            raise UserError(said, self.hint())
        return done.stdout.strip()

    def hint(self) -> str:
        if self.is_system:
            return f"`journalctl -u {self.name}` may know more"
        return (
            f"`journalctl --user -u {self.name}` may know more; without a login session of this "
            "user (`loginctl enable-linger`), its service manager does not run"
        )


def find_service(name: str, *, is_system: bool | None) -> Service:
    """Return the service of that name; root's is the system's unless said otherwise.

    Raises `UserError` for what cannot be a unit's name.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"`{name}` cannot be a unit's name", "use letters, digits, `.`, `_`, `-`")
    return Service(name, os.getuid() == 0 if is_system is None else is_system)


def install(service: Service, *, user: str | None, is_started: bool) -> list[str]:
    """Write the unit, let it start with the machine, and start it now if that is wanted. Answers
    what is to be known of it. Raises `UserError`."""
    if user is not None and not service.is_system:
        raise UserError("a user's own unit runs as that user", "leave `--run-as` out")
    if is_started and is_running() and not is_active(service):
        raise UserError("ew runs outside of this service already", "`./ew stop` first")
    service.systemctl("--version")
    service.path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(service.path, unit_text(service, user).encode(), mode=0o644)
    service.systemctl("daemon-reload")
    service.systemctl("enable", *(["--now"] if is_started else []), service.name)
    notes = [f"{service.path} is written, and starts with the machine"]
    if not service.is_system and not _lingers():
        notes.append("it ends when you log out, unless: `loginctl enable-linger`")
    return notes


def remove(service: Service) -> None:
    """Stop the service, and take its unit away. Raises `UserError`."""
    if not service.path.exists():
        raise UserError(f"{service.path} is not there", "`./ew service status` shows what is")
    service.systemctl("disable", "--now", service.name)
    service.path.unlink()
    service.systemctl("daemon-reload")


def is_active(service: Service) -> bool:
    return service.systemctl("is-active", service.name) in _ALIVE


def describe(service: Service) -> list[str]:
    """Return its state in words. Raises `UserError` where there is no systemd."""
    if not service.path.exists():
        return [f"{service.name} is not installed (`./ew service install`)"]
    state = service.systemctl("is-active", service.name)
    starts = service.systemctl("is-enabled", service.name)
    lines = [f"{service.name} is {state}, {starts}: {service.path}"]
    if state not in _ALIVE and is_running():
        lines.append("ew runs outside of it: `./ew stop`, then start the service")
    elif state == "failed":
        lines.append(service.hint())
    return lines


def run_supervisor() -> None:
    """Become the supervisor, as the main process of a unit. Does not return.

    Raises `UserError` if one runs already, `OSError`.
    """
    if is_running():
        raise UserError("ew runs outside of this service already", "`./ew stop` first")
    command = supervisor_command()
    path = logs_dir() / "supervisor.log"
    open_log(path)
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(command.cwd)
    told = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    os.execve(command.argv[0], command.argv, command.environment | told)  # noqa: S606


def unit_text(service: Service, user: str | None = None) -> str:
    """Return the unit file. The processes run as the owner of the project unless a `user` is
    named."""
    environment = [
        f'Environment="{name}={_escaped(os.environ[name])}"\n'
        for name in _PLACES
        if name in os.environ
    ]
    name = user or pwd.getpwuid(project_dir().stat().st_uid).pw_name
    return _TEMPLATE.format(
        name=service.name,
        project=_escaped(str(project_dir())),
        user=f"User={name}\n" if service.is_system else "",
        environment="".join(environment),
        environment_file=_escaped(str(state_dir() / ENVIRONMENT_FILE)),
        ew=_ew(),
        refused=REFUSED,
        hardening=_HARDENING if service.is_system else "",
        wanted_by="multi-user.target" if service.is_system else "default.target",
    )


def _ew() -> str:
    """Return the command, as a unit calls it."""
    program = ROOT / "ew" if IS_CLONE else Path(sys.argv[0]).absolute()
    return f'"{_escaped(str(program))}"'


def _escaped(text: str) -> str:
    """A value in a unit file, where `%` begins a specifier and `\\` an escape."""
    return text.replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')


def _lingers() -> bool:
    return (Path("/var/lib/systemd/linger") / pwd.getpwuid(os.getuid()).pw_name).exists()
