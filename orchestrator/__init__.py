"""From deploy/config.json to running processes: the `ew` command and the supervisor."""
