"""`python -m orchestrator`: the `ew` command."""

import sys

from orchestrator.cli import main

if __name__ == "__main__":
    sys.exit(main())
