"""How ew speaks at a terminal."""
