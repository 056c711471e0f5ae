"""Commands of ew's own that run in the background, for operators over HTTP."""
