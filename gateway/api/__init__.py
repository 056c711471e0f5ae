"""The parts that all APIs share: bodies, their bounds, and the way from a body to an answer."""
