"""The command line itself: its grammar, its parameters, its completion, and guesses."""
