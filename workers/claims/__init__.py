"""The jobs that a worker holds: how it claims them, and how it lets go of those that it does not
finish."""
