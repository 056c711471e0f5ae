"""The figures of a decoder that decide its memory."""

from __future__ import annotations

from pathlib import Path

import msgspec

from orchestrator.errors import UserError
from orchestrator.estimate.context import context_len
from orchestrator.estimate.layers.adapters import (
    EXPERTS_OF_A_TOKEN,
    AdapterWidths,
    adapter_widths,
    word_widths,
)
from orchestrator.estimate.layers.caches import cache_layers, head_dim_of, kv_heads_of
from orchestrator.estimate.layers.in_flight import ScanWidth, is_gated, scan_width
from orchestrator.estimate.layers.indexers import Indexer, indexer_of
from orchestrator.estimate.layers.kept import CacheLayers, Kind
from orchestrator.estimate.layers.states import ONLY_STATES
from orchestrator.estimate.layers.towers import Tower, towers_of
from orchestrator.estimate.model_json import ModelJson
from orchestrator.estimate.vision_json import read_processor


class Shape(msgspec.Struct, frozen=True):
    """The figures of a decoder that decide its memory, for the whole model."""

    layers: int
    hidden_size: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    #: The longest context that the model was made for, in tokens.
    context_len: int
    #: The memory that layers keep of each sequence; none: a model that keeps nothing, such as an
    #: encoder.
    caches: tuple[CacheLayers, ...] = ()
    #: Latent attention: elements of a head's key (twice, as it is put together) and value.
    expanded_dim: int = 0
    #: Mixture of experts: how many of them a token passes through, and their inner size.
    experts_per_token: int = 0
    expert_size: int = 0
    #: The MLP multiplies two projections.
    is_gated: bool = True
    #: A token in a recurrent layer.
    scan: ScanWidth = ScanWidth()
    #: Elements of one LoRA adapter for each unit of its rank.
    adapters: AdapterWidths = AdapterWidths()
    #: The parts that see or hear, of a multimodal model.
    towers: tuple[Tower, ...] = ()
    #: The most tokens of each kind of media, where the engine has said it.
    media: dict[str, int] = {}
    #: A part that sees or hears whose activations cannot be worked out.
    has_unread_part: bool = False
    #: Sparse attention whose keys an indexer finds.
    indexer: Indexer | None = None
    #: Layers beyond these that predict further tokens, for speculative decoding; 0 if config.json
    #: does not say.
    predictors: int = 0

    def count(self, kind: Kind) -> int:
        """Layers that keep this; such of two widths count once for each."""
        return sum(each.layers for each in self.caches if each.kind == kind)


def read_shape(path: Path, config: ModelJson, release: str) -> Shape:
    """Return the shape that config.json describes, as this release of the engine takes it. Raises
    `UserError` if it is no decoder."""
    layers = config.figure("num_hidden_layers", "n_layer", "num_layers", "n_layers") or len(
        config.first("layer_types", "layers_block_type", "hybrid_override_pattern") or ()
    )
    hidden = config.figure("hidden_size", "n_embd", "d_model")
    heads = config.figure("num_attention_heads", "n_head", "num_heads", "n_heads")
    # There is no attention in a model of recurrent layers alone.
    heads = 1 if config.model_type in ONLY_STATES else heads
    if not (layers and hidden and heads):
        raise UserError(
            f"{path}/config.json does not describe a decoder whose memory ew can work out",
            "set `gpu_memory_utilization` (a part of the GPU) or `gpu_memory_gib` of the model: "
            "then exactly that much is reserved",
        )
    towers = towers_of(config, read_processor(path))
    media = bool(config.vision_config) + bool(config.audio_config)
    kv_heads, head_dim = kv_heads_of(config, heads), head_dim_of(config, heads, hidden)
    inner = _given(config.figure("intermediate_size", "ffn_hidden_size", "n_inner"), 4 * hidden)
    return Shape(
        layers=layers,
        hidden_size=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate_size=inner,
        vocab_size=config.figure("vocab_size", "padded_vocab_size") or 0,
        context_len=context_len(config, release),
        caches=tuple(cache_layers(config, layers, heads, hidden)),
        expanded_dim=_expanded_dim(config),
        experts_per_token=config.figure(*EXPERTS_OF_A_TOKEN) or 0,
        expert_size=config.figure("moe_intermediate_size", "intermediate_size") or 0,
        is_gated=is_gated(config),
        scan=scan_width(config, hidden),
        adapters=adapter_widths(
            config,
            layers=layers,
            hidden=hidden,
            queries=heads * head_dim,
            keys=kv_heads * head_dim,
            inner=inner,
        )
        + word_widths(config, hidden),
        towers=towers,
        has_unread_part=len(towers) < media,
        indexer=indexer_of(config),
        predictors=config.figure("num_nextn_predict_layers", "mtp_num_hidden_layers") or 0,
    )


def _expanded_dim(config: ModelJson) -> int:
    rotary = config.figure("qk_rope_head_dim") or 0
    plain = config.figure("qk_nope_head_dim") or 0
    return 2 * plain + rotary + (config.figure("v_head_dim") or 0)


def _given(figure: int | None, otherwise: int) -> int:
    return otherwise if figure is None else figure
