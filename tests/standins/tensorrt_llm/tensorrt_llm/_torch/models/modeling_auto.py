"""The architectures that the PyTorch backend runs, as far as tests name them."""

MODEL_CLASS_MAPPING = dict.fromkeys(
    (
        "LlamaForCausalLM",
        "MistralForCausalLM",
        "MixtralForCausalLM",
        "Qwen2ForCausalLM",
        "Qwen3ForCausalLM",
        "Qwen3MoeForCausalLM",
        "Phi3ForCausalLM",
        "DeepseekV3ForCausalLM",
    ),
    object,
)
