"""The PyTorch part."""
