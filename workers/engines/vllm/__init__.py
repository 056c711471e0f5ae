"""vLLM, in this process or one of its own."""
