"""Commands that bring ew and its engines onto a host, and look whether all is well there."""
