"""Commands that start and stop what runs, and show it."""
