"""Exit with 0 if the gateway of this container answers, or, where there is none, if its workers
have their supervisor. The health check of the image."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import urllib.request
from pathlib import Path

EW = Path(__file__).resolve().parents[2] / "ew"
asked = subprocess.run([EW, "status", "--json"], capture_output=True, text=True, check=False)
status = json.loads(asked.stdout or "{}")
if not (status.get("supervisor") or {}).get("alive"):
    sys.exit("no supervisor")
if status.get("gateway"):
    # That it answers is asked, not whose certificate it has.
    tls = ssl._create_unverified_context()  # noqa: S323, SLF001
    url = f"{status['gateway']['url']}/health/live"
    with urllib.request.urlopen(url, timeout=4, context=tls) as answer:  # noqa: S310
        sys.exit(0 if answer.status == 200 else f"{url} says {answer.status}")
