"""What operators look at that is spread over processes."""
