#!/bin/sh
# Runs a command of ew in its container.
set -eu
ew=$(cd "${0%/*}/../.." && pwd -P)/ew
mkdir -p "$EW_STATE_DIR"
# The engines of the image; the state is a volume, which hides what the image has there.
[ -e "$EW_STATE_DIR/envs" ] || ln -s "${ENGINES_DIR:-/opt/envs}" "$EW_STATE_DIR/envs"
# A container that was killed left the list of its processes, which are gone with it.
if [ "${1-}" = start ]; then
    "$ew" stop --now >&2
fi
exec "$ew" "$@"
