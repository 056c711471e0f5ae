"""SGLang behind the engine seam: `engine` is the adapter, the other files are its parts."""
