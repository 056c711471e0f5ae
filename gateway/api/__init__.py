"""What both APIs have in common: bodies, their bounds, and the way from a body to an answer."""
