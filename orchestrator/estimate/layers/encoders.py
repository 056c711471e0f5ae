"""Models that read a text as a whole and keep nothing of it: each of their layers looks in both
directions, so vLLM gives them no cache (`EncoderOnlyAttention.get_kv_cache_spec`)."""

from __future__ import annotations

from typing import Final

from orchestrator.estimate.model_json import ModelJson

#: `model_type`s whose classes in vLLM (0.26 to 0.33: bert.py, bert_with_rope.py, roberta.py,
#: modernbert.py, openai_privacy_filter.py) have no other attention.
_FAMILIES: Final = frozenset(
    {"bert", "camembert", "embedding_gemma2", "embedding_gemma2_text", "ernie", "gte"}
    | {"modernbert", "new", "nomic_bert", "roberta", "siglip", "siglip2", "xlm-roberta"}
    | {"colmodernvbert", "modernvbert", "openai_privacy_filter", "xlm-roberta-xl"}
    | {"colultravbert", "ultrabert", "ultravbert"}
)
#: A key that others write, too, of parts that are read once (`Gemma3TextModelConfig`).
_BY_DIRECTION: Final = ("gemma3_text",)
#: Of decoders whose attention was opened (`LlamaBidirectionalModel`,
#: `VoyageQwen3BidirectionalEmbedModel`), but for one that vLLM runs as any decoder.
_OPENED: Final = "Bidirectional"
_NOT_OPENED: Final = "DeepseekV3BidirectionalModel"


def is_encoder(config: ModelJson) -> bool:
    """Whether no layer keeps anything. Decoders say it by a key of their own."""
    if config.first("is_causal") is False:
        return True
    if config.model_type in _BY_DIRECTION and config.use_bidirectional_attention is True:
        return True
    names = config.architectures or ()
    named = any(_OPENED in name and name != _NOT_OPENED for name in names)
    return named or config.model_type in _FAMILIES
