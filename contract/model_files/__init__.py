"""The files of models that both the supervisor and workers read."""
