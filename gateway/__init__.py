"""HTTP in, jobs out; events in, server-sent events out."""
