"""ew's own API."""
