"""Commands about what is configured: models, keys, memory."""
