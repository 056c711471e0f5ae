"""One gateway process: its parts, its heartbeat, and what it does at regular intervals."""
