"""What vLLM's own server has beside OpenAI's API."""
