"""The example proxies of deploy/proxies, really started in front of a gateway."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import httpx

from contract.process.ports import free_port
from contract.process.tls import TlsFiles, client_context
from tests.deploy.tools import DEPLOY, of_debian, tool
from tests.waiting import eventually

EXAMPLES: Final = DEPLOY / "proxies"


class Place(NamedTuple):
    """A directory of a proxy's own, its port, and what it is in front of."""

    directory: Path
    port: int
    gateway_port: int
    certificate: TlsFiles

    def copy(self, example: str, *changes: tuple[str, str]) -> Path:
        """Copy an example with this place's names in it. Each change must find its text."""
        text = (EXAMPLES / example).read_text()
        every = (
            ("llm.example.com", "localhost"),
            ("/etc/ew/fullchain.pem", str(self.certificate.certificate)),
            ("/etc/ew/privkey.pem", str(self.certificate.key)),
            ("127.0.0.1:8080", f"127.0.0.1:{self.gateway_port}"),
        )
        for before, after in changes:
            assert before in text, f"{example} has no {before!r}"
            text = text.replace(before, after)
        for before, after in every:
            text = text.replace(before, after)
        path = self.directory / example
        path.write_text(text)
        return path


class Proxy:
    """One that runs."""

    def __init__(self, place: Place, command: list[str], reload: list[str] | None) -> None:
        self.url = f"https://localhost:{place.port}"
        self._reload = reload
        self.log = place.directory / "log"
        self._environment = {
            **os.environ,
            "HOME": str(place.directory),
            "XDG_CONFIG_HOME": str(place.directory),
            "XDG_DATA_HOME": str(place.directory),
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=place.directory, env=self._environment
            )
        self._trusts = client_context(place.certificate.certificate)
        eventually(self._serves)

    @property
    def reloads_by_itself(self) -> bool:
        return self._reload is None

    def reload(self) -> None:
        """Read the configuration again, as its operator would have it."""
        assert self._reload is not None
        subprocess.run(self._reload, check=True, capture_output=True, env=self._environment)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def _serves(self) -> bool:
        """Whether it has its routes and its certificate: Traefik listens before."""
        assert self._process.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"{self.url}/health/live", verify=self._trusts).status_code == 200
        except httpx.TransportError:
            return False


def nginx(place: Place) -> Proxy:
    program = str(of_debian("nginx"))
    site = place.copy("nginx.conf", ("listen 443 ssl", f"listen 127.0.0.1:{place.port} ssl"))
    whole = place.directory / "whole.conf"
    whole.write_text(
        f"daemon off; pid {place.directory}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; include {site};\n"
        + "".join(
            f"{kind}_temp_path {place.directory}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        + "}\n"
    )
    # As one process it needs no user of its own.
    command = [program, "-p", str(place.directory), "-c", str(whole), "-g", "user root;"]
    if os.getuid() != 0:
        command = command[:-2]
    return Proxy(place, command, [*command, "-s", "reload"])


def caddy(place: Place) -> Proxy:
    program = str(tool("caddy"))
    admin = f"unix/{place.directory}/admin.sock"
    own = f"{{\n\tadmin {admin}\n\thttp_port {free_port()}\n}}\n\n"
    file = place.copy(
        "Caddyfile",
        ("llm.example.com {", f"{own}https://localhost:{place.port} {{\n\tbind 127.0.0.1"),
    )
    options = ["--config", str(file), "--adapter", "caddyfile"]
    return Proxy(
        place, [program, "run", *options], [program, "reload", *options, "--address", admin]
    )


def traefik(place: Place) -> Proxy:
    program = str(tool("traefik"))
    dynamic = place.copy("traefik-ew.yaml")
    static = place.copy(
        "traefik.yaml",
        ('":443"', f'"127.0.0.1:{place.port}"'),
        ("/etc/traefik/ew.yaml", str(dynamic)),
    )
    return Proxy(place, [program, f"--configFile={static}"], None)


PROXIES: Final[dict[str, Callable[[Place], Proxy]]] = {
    "nginx": nginx,
    "caddy": caddy,
    "traefik": traefik,
}
