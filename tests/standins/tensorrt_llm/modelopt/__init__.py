"""A stand-in for NVIDIA ModelOpt: it calibrates, and writes down how; weights stay as they are."""
