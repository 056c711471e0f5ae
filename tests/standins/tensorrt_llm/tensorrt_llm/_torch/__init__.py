"""The PyTorch backend's model list."""
