"""Pooling models in vLLM: their prompts, and the vectors, classes and scores of them."""
