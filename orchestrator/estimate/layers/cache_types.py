"""The types of KV caches: their names (`kv_cache_dtype`), and how wide a token is in them."""

from __future__ import annotations

from typing import Final

import msgspec


class CacheType(msgspec.Struct, frozen=True):
    """The width of what attention keeps of a token."""

    #: Of each element of a key or a value.
    element_bytes: float
    #: Beside those of each head: scales and the like.
    head_bytes: int = 0
    #: Layers at each end of the model that keep `plain_bytes` an element, without scales.
    plain_ends: int = 0
    plain_bytes: float = 0

    def token_bytes(self, heads: int, elements: int, layers: int) -> float:
        """Return the bytes of a token in one of so many layers, on the average of these."""
        packed = heads * (elements * self.element_bytes + self.head_bytes)
        ends = 2 * min(self.plain_ends, layers // 2)
        if not ends:
            return packed
        return (packed * (layers - ends) + heads * elements * self.plain_bytes * ends) / layers


#: Four bits, and a scale of one byte for every 16 numbers.
_FP4: Final = CacheType(0.5625)
#: vLLM 0.33 (flashmla_sparse.py), of latent attention with an indexer alone: 512 numbers in four
#: bits with a scale of one byte for every 16, and 64 with positions in eight bits.
_FP4_LATENT: Final = CacheType(352 / 576)
#: Scales of a key and a value in float32.
_SCALES: Final = 2 * 4
#: vLLM 0.32 and 0.33: `TritonAttentionBackend.customize_spec`; `TurboQuantConfig`, of which a value
#: has a scale and a zero in half precision, a rotated key its norm.
_OWN: Final = {
    "int8_per_token_head": CacheType(1, _SCALES),
    "fp8_per_token_head": CacheType(1, _SCALES),
    "int4_per_token_head": CacheType(0.5, _SCALES),
    "turboquant_k8v4": CacheType((8 + 4) / 16, 4, 2),
    "turboquant_4bit_nc": CacheType((4 + 4) / 16, 4 + 2, 2),
    "turboquant_k3v4_nc": CacheType((3 + 4) / 16, 4 + 2, 2),
    "turboquant_3bit_nc": CacheType((3 + 3) / 16, 4 + 2, 2),
    "nvfp4_ds_mla": _FP4_LATENT,
    # SGLang 0.5.23 (`MHATokenToKVPoolMXFP8`): a scale of one byte for 32 numbers.
    "mxfp8": CacheType(1 + 1 / 32),
}


def cache_type(name: str, otherwise: float, *, is_hybrid: bool = False) -> CacheType:
    """Return the type of a name; `otherwise` is the width of an element in the engine's own, which
    is that of names that say nothing else, and of layers that a type leaves as they are. It
    leaves none so among recurrent layers (`is_hybrid`)."""
    lower = name.lower()
    if own := _OWN.get(lower):
        ends = 0 if is_hybrid else own.plain_ends
        return msgspec.structs.replace(own, plain_ends=ends, plain_bytes=otherwise)
    if lower.startswith(("fp8", "int8")):
        return CacheType(1)
    return _FP4 if "fp4" in lower else CacheType(otherwise)
