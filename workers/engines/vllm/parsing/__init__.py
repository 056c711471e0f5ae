"""vLLM's own parsers: which there are for a model, and how an answer is read by them."""
