"""The protocol between the supervisor and the commands."""
