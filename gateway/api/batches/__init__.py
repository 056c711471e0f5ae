"""Files and batches, in OpenAI's API."""
