#!/usr/bin/env bash
# uv 0.13.8: `uv pip compile --generate-hashes` with `--find-links DIR` writes for a package of which
# DIR has one wheel the hash of that wheel alone. Without DIR it writes the hashes of all files of the
# same version. A guess would be: the folder adds to what the index offers, as it does for the choice
# of versions. So a lock that is made on a machine with a wheel cache in UV_FIND_LINKS
# installs nowhere but on its own platform and Python ("hash mismatch" everywhere else).
#
# Output seen (msgspec 0.21.1, CPython 3.11, x86-64):
#     from the index alone: 49 hashes
#     with a folder that has one wheel: 1 hash
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
unset PIP_FIND_LINKS UV_FIND_LINKS UV_EXTRA_INDEX_URL PIP_EXTRA_INDEX_URL
python3 -m venv env
PIP_CONFIG_FILE=/dev/null env/bin/pip install --quiet --disable-pip-version-check uv==0.13.8
PIP_CONFIG_FILE=/dev/null env/bin/pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --dest wheels msgspec==0.21.1
echo "msgspec==0.21.1" > wanted.in
hashes() { env/bin/uv pip compile --quiet --no-config --no-header --universal --generate-hashes "$@" wanted.in | grep -c -- --hash; }
all=$(hashes)
with_folder=$(hashes --find-links wheels)
echo "from the index alone: $all hashes"
echo "with a folder that has one wheel: $with_folder hash"
[ "$all" -gt 10 ] && [ "$with_folder" -eq 1 ]
