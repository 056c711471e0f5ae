"""The API of vLLM's own server beside OpenAI's."""
