"""What a model needs: its files, its weights and its KV cache, in bytes."""
