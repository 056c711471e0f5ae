"""Speech to text, as OpenAI has it."""
