"""The operator's files: the configuration, the keys, and whether both fit this host."""
