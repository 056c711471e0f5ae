"""What `./ew doctor` looks at."""
