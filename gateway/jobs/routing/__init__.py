"""The models that do what others are asked for: by choice, by copies, and out of a queue."""
