"""This host: processes, files, ports, Valkey and the environment of children."""
