"""`ew bench`: a load test of any server of OpenAI's API."""
