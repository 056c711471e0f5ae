"""Connections to Redis, beneath its clients."""
