"""Whether the engine gets on, and each of its jobs can."""
