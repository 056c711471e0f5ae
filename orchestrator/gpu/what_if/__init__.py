"""A dry run of the configured models on GPUs: `./ew estimate`."""
