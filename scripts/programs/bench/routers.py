"""The cost of ew beside that of routers which only pass bytes on: nginx, vllm-router and
sglang-router before a server that computes nothing, and ew with its mock engine, at equal steps."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import venv
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

from comparison import Server, compare, of_ew
from process import started
from report import write
from stand import ROOT, Build, Stand, free_port
from wire import mock_config

# The newest of each when this was written.
_PACKAGES: Final = ("vllm-router==0.1.17", "sglang-router==0.3.2")
_CANNED: Final = Path(__file__).with_name("canned.c")
_NGINX: Final = """\
pid {directory}/nginx.pid;
error_log {directory}/nginx.log;
daemon off;
worker_processes 1;
worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {directory}; proxy_temp_path {directory};
    fastcgi_temp_path {directory}; uwsgi_temp_path {directory}; scgi_temp_path {directory};
    upstream canned {{ server 127.0.0.1:{upstream}; keepalive 1024; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://canned;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--step-ms", type=float, default=5.0)
    parser.add_argument(
        "--environment",
        type=Path,
        metavar="DIR",
        help=f"a virtual environment that has {' and '.join(_PACKAGES)} (default: make one)",
    )


def run(args: argparse.Namespace) -> None:
    """Every level of concurrency, all of them in turn in each round."""
    what = f"routers: {', '.join(_PACKAGES)}, {_version_of_nginx()}"
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ew-bench-")))
        environment = args.environment or _environment(directory / "environment")
        ew = stack.enter_context(Stand(Build("ew", ROOT), mock_config(1000 / args.step_ms)))
        servers = [of_ew(ew, "mock")]
        canned = directory / "canned"
        subprocess.run(["cc", "-O2", "-o", canned, _CANNED], check=True)
        upstream = free_port()
        begun = started([canned, str(upstream), str(args.step_ms)], upstream, directory / "log")
        servers.append(_server("canned", upstream, stack.enter_context(begun)))
        for label, command, port in _routers(environment, upstream, directory):
            pid = stack.enter_context(started(command, port, directory / f"{label}.log"))
            servers.append(_server(label, port, pid))
        what += f"; steps of {args.step_ms} ms, {args.tokens} tokens"
        keep = partial(write, args.json, what)
        compare(servers, args.streams, args.rounds, args.tokens, keep)


def _environment(path: Path) -> Path:
    venv.create(path, with_pip=True)
    subprocess.run([path / "bin/pip", "install", "--quiet", *_PACKAGES], check=True)
    return path


def _server(label: str, port: int, pid: int) -> Server:
    return Server(label, port, "mock", pids=(("", pid),))


def _routers(
    environment: Path, upstream: int, directory: Path
) -> Iterator[tuple[str, list[str | Path], int]]:
    """Each router's label, its command, and the port that it listens at."""
    port = free_port()
    config = directory / "nginx.conf"
    config.write_text(_NGINX.format(directory=directory, upstream=upstream, port=port))
    yield "nginx", [_nginx(), "-c", config], port
    for label in ("vllm-router", "sglang-router"):
        port = free_port()
        module = f"{label.replace('-', '_')}.launch_router"
        words = ["--host", "127.0.0.1", "--port", str(port), "--policy", "round_robin"]
        words += ["--prometheus-port", str(free_port()), "--log-level", "error"]
        words += ["--worker-urls", f"http://127.0.0.1:{upstream}"]
        yield label, [environment / "bin/python", "-m", module, *words], port


def _nginx() -> str:
    """Raises `SystemExit` if there is none."""
    found = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        raise SystemExit("there is no nginx (Debian: apt-get install nginx)")
    return found


def _version_of_nginx() -> str:
    done = subprocess.run([_nginx(), "-v"], capture_output=True, text=True, check=True)
    return done.stderr.strip().removeprefix("nginx version: ")
