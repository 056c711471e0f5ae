"""The supervisor: one process that starts, watches, restarts and stops all others."""
