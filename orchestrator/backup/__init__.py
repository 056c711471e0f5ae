"""Backups: one archive of what cannot be made again, and the way back from it."""
