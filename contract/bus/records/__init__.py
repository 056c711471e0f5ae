"""Records of jobs beside the queue."""
