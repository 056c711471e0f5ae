"""What a supervisor tells of its host, and takes from others than its own commands."""
