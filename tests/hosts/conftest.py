"""Three hosts that share one Valkey and one configuration: installations with state directories and
names of their own on this machine, each started by its own command."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from contract.process.ports import free_port
from tests.conftest import ValkeyServer
from tests.redis_proxy import proxy_beside
from tests.running_ew import Ew

#: Slow enough that a fault happens in the middle of an answer.
_TOKENS_PER_S = 50


class Hosts(NamedTuple):
    """`front` has the gateway, and `gpu_1` and `gpu_2` run the models `both` and `comes`.
    `cut_off(True)` lets no packet pass between `gpu_2` and Valkey any more; False does again."""

    front: Ew
    gpu_1: Ew
    gpu_2: Ew
    key: str
    cut_off: Callable[[bool], None]

    @property
    def headers(self) -> dict[str, str]:
        return {"X-API-Key": self.key}


def make_host(directory: Path, name: str, config: Path, port: int = 0) -> Ew:
    ew = Ew(directory / name, port)
    ew.environment |= {"EW_HOST_NAME": name, "EW_CONFIG": str(config)}
    return ew


def configuration(redis_url: str) -> dict[str, Any]:
    model = {
        "engine": "mock",
        "model_path": "none",
        "hosts": ["gpu-*"],
        "engine_args": {"tokens_per_s": _TOKENS_PER_S},
    }
    return {
        "models": {"both": model, "comes": {**model, "load": "on-demand"}},
        "gateway": {"hosts": ["front"], "processes": 1},
        "redis": {"url": redis_url},
    }


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    directory = tmp_path_factory.mktemp("hosts")
    valkey = ValkeyServer(tmp_path_factory.mktemp("valkey"))
    valkey.start()
    with proxy_beside(str(valkey.socket)) as (distant, cut_off):
        urls = {"front": valkey.url, "gpu-1": valkey.url, "gpu-2": distant}
        everywhere = []
        for name, url in urls.items():
            config = directory / f"{name}.json"
            config.write_text(json.dumps(configuration(url)))
            port = free_port() if name == "front" else 0
            everywhere.append(make_host(directory, name, config, port))
        try:
            with ThreadPoolExecutor(3) as pool:
                for started in pool.map(lambda ew: ew.run("start"), everywhere):
                    assert started.returncode == 0, started.stderr
            key = everywhere[0].run("keys", "add", "caller").stdout.strip()
            yield Hosts(*everywhere, key, cut_off)
        finally:
            cut_off(False)
            with ThreadPoolExecutor(3) as pool:
                list(pool.map(lambda ew: ew.run("stop", "--now"), everywhere))
            for process in [each for ew in everywhere for each in ew.processes()]:
                os.kill(process.pid, 9)
            valkey.kill()
