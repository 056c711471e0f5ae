"""TensorRT-LLM plans: what they are made for, and whether they fit."""
