#!/usr/bin/env bash
# Zensical 0.0.73: `zensical build --strict` says nothing of a link to a file that is not there unless
# that ends in `.md`. A guess from its page on validation ("validates all internal links at build time")
# would be: such a link is an issue as well, as with a page. So a site may be built
# "without issues" whose links to a configuration file or an image lead nowhere.
#
# Output seen (CPython 3.11, x86-64):
#     missing.md: exit code 1
#     missing.conf: exit code 0
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
PIP_CONFIG_FILE=/dev/null env/bin/pip install --quiet --disable-pip-version-check zensical==0.0.73
mkdir docs
printf '[project]\nsite_name = "x"\n' > zensical.toml
code() {
    printf '# A page\n\n[a file](%s)\n' "$1" > docs/index.md
    env/bin/zensical build --clean --strict > log 2>&1 && echo 0 || echo 1
}
page=$(code missing.md)
file=$(code missing.conf)
echo "missing.md: exit code $page"
echo "missing.conf: exit code $file"
[ "$page" -eq 1 ] && [ "$file" -eq 0 ]
