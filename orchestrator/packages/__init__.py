"""Packages for an environment: locks, indexes, downloads, and what is wrong with them."""
