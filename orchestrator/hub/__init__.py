"""Models on a Hugging Face hub: what is there, and fetching it.

`remote` and `download` import huggingface_hub, which reads its settings from the environment in
that moment: `access.prepare` comes before.
"""
