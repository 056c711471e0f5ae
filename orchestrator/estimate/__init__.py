"""Estimates of a model's memory: its files, its weights and its KV cache, in bytes."""
