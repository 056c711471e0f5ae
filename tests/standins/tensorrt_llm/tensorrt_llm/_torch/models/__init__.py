"""Importing this registers the models."""
