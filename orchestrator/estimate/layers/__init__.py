"""The layers of a model by their kind: what they keep, need and are."""
