"""The architectures that plans can be built for, as far as tests name them."""

MODEL_MAP = dict.fromkeys(
    (
        "LlamaForCausalLM",
        "MistralForCausalLM",
        "MixtralForCausalLM",
        "QWenLMHeadModel",
        "Qwen2ForCausalLM",
        "Qwen2MoeForCausalLM",
        "BaichuanForCausalLM",
        "BaiChuanForCausalLM",
        "ChatGLMModel",
        "ChatGLMForConditionalGeneration",
        "GPT2LMHeadModel",
        "FalconForCausalLM",
        "Phi3ForCausalLM",
        "GemmaForCausalLM",
    ),
    object,
)
