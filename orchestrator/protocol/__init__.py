"""What the supervisor and the commands tell each other."""
