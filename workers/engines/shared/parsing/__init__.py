"""The meaning of an answer's text: thoughts, calls of tools, or words."""
