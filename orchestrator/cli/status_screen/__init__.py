"""What `./ew status` shows, once or as a window that follows."""
