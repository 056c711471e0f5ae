"""Wheels of a few bytes, so that installers can be tested for real without a network."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from pathlib import Path


def make_wheel(
    directory: Path, name: str, version: str, files: dict[str, str] | None = None
) -> str:
    """Put a wheel into `directory`. Returns its entry in a lock, with the hash.

    Without `files` it holds a module of its own name, with a VERSION.
    """
    contents = files or {f"{name}.py": f'VERSION = "{version}"\n'}
    info = f"{name}-{version}.dist-info"
    contents = {
        **contents,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in contents.items():
            wheel.writestr(file, text)
        wheel.writestr(f"{info}/RECORD", _record(contents, info))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{name}=={version} \\\n    --hash=sha256:{digest}\n"


def _record(contents: dict[str, str], info: str) -> str:
    rows = [f"{file},{_digest(text)},{len(text)}\n" for file, text in contents.items()]
    return "".join([*rows, f"{info}/RECORD,,\n"])


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
