"""Build the documentation's site into `.ew/site/html`, with Zensical, pinned in
`scripts/programs/site/site.lock`.

    scripts/site

The pages are those that are read in the repository: README.md, docs/, and the files that they link
to, laid out as there, so that a link works in both. A broken link, or a page that the navigation
lacks, is an error.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import tomllib

ROOT: Final = Path(__file__).resolve().parent.parent
PROGRAM: Final = ROOT / "scripts" / "programs" / "site"
OUT: Final = ROOT / ".ew" / "site"
_PAGES: Final = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**/*.md")
_LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
_CODE: Final = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def pages() -> list[Path]:
    """Return the pages of the site, relative to the repository."""
    found = (path for pattern in _PAGES for path in ROOT.glob(pattern))
    return sorted(path.relative_to(ROOT) for path in found)


def links(page: Path) -> Iterator[tuple[str, str]]:
    """Yield the links of a page to others of this repository: a path as it is written, which may be
    empty, and a heading's anchor."""
    text = _CODE.sub("", (ROOT / page).read_text(encoding="utf-8"))
    for target in _LINK.findall(text):
        if "://" not in target and not target.startswith("mailto:"):
            path, _, anchor = target.partition("#")
            yield path, anchor


def in_navigation() -> set[Path]:
    """Return the pages that the site's navigation has."""
    config = tomllib.loads((PROGRAM / "zensical.toml").read_text(encoding="utf-8"))
    return {Path(each) for each in _leaves(config["project"]["nav"])}


def _leaves(entry: object) -> Iterator[str]:
    match entry:
        case str():
            yield entry
        case list():
            for each in entry:
                yield from _leaves(each)
        case dict():
            for each in entry.values():
                yield from _leaves(each)


def stage(source: Path) -> None:
    """Lay the pages out, and the files that they link to. Folders that are linked to are left out:
    a site has no listing of them."""
    for page in pages():
        for path in (page, *(page.parent / path for path, _ in links(page) if path)):
            origin = (ROOT / path).resolve()
            target = source / origin.relative_to(ROOT)
            if origin.is_file() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(origin, target)


def main() -> int:
    from tests.clients.environments import CannotInstall, python

    if lacking := sorted(map(str, set(pages()) - in_navigation() - records())):
        print(f"zensical.toml lacks {', '.join(lacking)}", file=sys.stderr)
        return 1
    try:
        program = python("site", PROGRAM / "site.lock").with_name("zensical")
    except CannotInstall as error:
        print(error, file=sys.stderr)
        return 1
    shutil.rmtree(OUT, ignore_errors=True)
    stage(OUT / "source")
    shutil.copyfile(PROGRAM / "zensical.toml", OUT / "zensical.toml")
    built = subprocess.run([program, "build", "--strict"], cwd=OUT, check=False)
    if built.returncode == 0:
        print(f"the site is {OUT / 'html'}")
    return built.returncode


def records() -> set[Path]:
    """Return pages that others link to, and that the navigation need not have."""
    return {page for page in pages() if len(page.parts) > 2}


if __name__ == "__main__":
    sys.exit(main())
