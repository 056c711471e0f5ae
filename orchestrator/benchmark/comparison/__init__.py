"""`ew compare`: the same prompts for two models, and how much their answers and speed differ."""
