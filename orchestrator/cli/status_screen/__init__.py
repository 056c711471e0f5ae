"""The screen of `./ew status`, once or as a window that follows."""
