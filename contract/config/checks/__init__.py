"""Checks of keys beside each other, each of which is right by itself."""
