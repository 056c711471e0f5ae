"""The files that the supervisor writes: its status, and the run file for its successor."""
