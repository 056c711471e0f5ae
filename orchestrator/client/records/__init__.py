"""Records in the Redis of this installation, as commands read and change them."""
