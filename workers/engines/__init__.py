"""One file per engine; only that file imports the engine's library."""
