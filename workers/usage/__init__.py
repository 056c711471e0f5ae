"""The use that the jobs of a worker make of its engine."""
