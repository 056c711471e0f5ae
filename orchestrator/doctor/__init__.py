"""The checks of `./ew doctor`."""
