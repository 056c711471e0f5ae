"""The command line itself: its grammar, its completion, and guesses at what was meant."""
