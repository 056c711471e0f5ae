"""Files that clients upload, and batches of requests in them: on this host's disk, so that a batch
of gigabytes needs no memory, and goes on after a crash of anything at the line where it was."""
