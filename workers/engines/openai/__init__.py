"""A server that speaks OpenAI's API, here or elsewhere, as an engine."""
