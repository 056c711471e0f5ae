"""What the supervisor writes down: its status, and what a successor needs."""
