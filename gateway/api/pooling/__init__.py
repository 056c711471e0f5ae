"""Requests to pooling models, for embeddings, scores and classes, in the words of several APIs."""
