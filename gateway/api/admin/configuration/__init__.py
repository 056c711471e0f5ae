"""The configuration file, for operators: its schema, and the models' entries."""
