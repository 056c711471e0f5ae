"""Jobs in, an engine, events out. Runs in the engine's own environment."""
