#!/usr/bin/env bash
# redis-py 8.1.0 imports OpenTelemetry's SDK of metrics wherever that package is installed, though nothing
# asks for metrics and no provider is set: `import redis` then loads over a hundred modules more, and takes
# about twice as long. A guess from its documentation ("initialize observability" is a call) misses: an
# application that only adds `opentelemetry-sdk`, for traces that are off, pays for it in every process.
#
# Output seen (CPython 3.11; the numbers are of modules below `opentelemetry.sdk`):
#     redis 8.1.0 alone: none
#     with opentelemetry-sdk: some
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
install() { env/bin/pip install --quiet --disable-pip-version-check "$@"; }
look() {
    env/bin/python - <<'PYTHON'
import sys

import redis.asyncio

print("some" if any(name.startswith("opentelemetry.sdk.") for name in sys.modules) else "none")
PYTHON
}
install redis==8.1.0
{
    echo "redis 8.1.0 alone: $(look)"
    install opentelemetry-sdk==1.45.2 opentelemetry-semantic-conventions==0.66b2
    echo "with opentelemetry-sdk: $(look)"
} | tee seen
diff seen - <<'SEEN'
redis 8.1.0 alone: none
with opentelemetry-sdk: some
SEEN
