"""Logs: their lines, their growth and their rotation."""
