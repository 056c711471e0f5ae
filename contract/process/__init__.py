"""What any process of ew needs of its host: logging, tasks, ports, and its children."""
