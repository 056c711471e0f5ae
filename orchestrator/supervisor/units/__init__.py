"""One process in the supervisor's care: its start, its signs of life, its restarts."""
