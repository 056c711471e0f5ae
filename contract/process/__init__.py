"""Access to the host for any process of ew: logging, tasks, ports, and its children."""
