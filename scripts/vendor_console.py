"""Fetch the console's libraries from the npm registry, as `manifest.json` pins them.

    scripts/vendor-console            # after a change of the manifest
    scripts/vendor-console --check    # the same without a change: fail if anything differs

Needs `npm`, which nobody else does: the files are in the repository. Each package must have the
`integrity` (SHA-512) of the manifest. Bare imports (`from "preact"`) become paths, as a page under
`default-src 'self'` cannot have an import map, and comments that name source maps are left out;
nothing else is changed. The SHA-256 of what is served is written to the manifest, and a test
compares. To take a new version: change it and empty its `integrity`, run this, and look at the
differences.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

VENDOR = Path(__file__).resolve().parents[1] / "gateway/server/console_page/vendor"
MANIFEST = VENDOR / "manifest.json"
_SOURCE_MAP = re.compile(rb"\n//# sourceMappingURL=\S+\s*$")


def main(arguments: list[str]) -> int:
    """Return the exit code."""
    manifest = json.loads(MANIFEST.read_text())
    files = {}
    for package in manifest["packages"]:
        files |= fetch(package, manifest["imports"])
    manifest["sha256"] = {
        name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())
    }
    files["manifest.json"] = (json.dumps(manifest, indent=2) + "\n").encode()
    if arguments == ["--check"]:
        differing = [name for name, content in files.items() if read(VENDOR / name) != content]
        print("\n".join(f"{name} differs from what is published" for name in differing))
        return 1 if differing else 0
    for name, content in files.items():
        (VENDOR / name).write_bytes(content)
    return 0


def fetch(package: dict[str, Any], imports: dict[str, str]) -> dict[str, bytes]:
    """Return a package's files as they are served. Exits if it is not the one that is pinned."""
    wanted = f"{package['name']}@{package['version']}"
    with tempfile.TemporaryDirectory() as directory:
        packed = subprocess.run(
            ["npm", "pack", wanted, "--silent", "--pack-destination", directory],
            check=True,
            capture_output=True,
            text=True,
        )
        path = Path(directory, packed.stdout.split()[-1])
        integrity = (
            "sha512-" + base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
        )
        package["integrity"] = package["integrity"] or integrity
        if package["integrity"] != integrity:
            sys.exit(f"{wanted} is another one than is pinned: {integrity}")
        with tarfile.open(path) as archive:
            return {
                ours: served(archive.extractfile(f"package/{theirs}").read(), imports)
                for theirs, ours in package["files"].items()
            }


def served(content: bytes, imports: dict[str, str]) -> bytes:
    """Return a file as a browser is given it."""
    for name, path in imports.items():
        content = re.sub(
            rb"""(from\s*)(["'])%s\2""" % re.escape(name.encode()),
            rb'\1"%s"' % path.encode(),
            content,
        )
    return _SOURCE_MAP.sub(b"\n", content)


def read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
