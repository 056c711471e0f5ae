"""Parts that several engines' adapters share."""
