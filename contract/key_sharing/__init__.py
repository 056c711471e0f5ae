"""API keys that hosts on one Redis share: the key file of one of them, the source, is published,
and the others follow it."""
