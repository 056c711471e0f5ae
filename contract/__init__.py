"""The contract between all processes: configuration, messages, and the bus that carries them.

A module belongs here if at least two processes need it and it imports only the standard
library, msgspec, pydantic and redis.
"""
