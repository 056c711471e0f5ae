"""The JSON of parts of config.json, such as single layers and their kinds, as frozen types."""

from __future__ import annotations

import msgspec

from contract.model_files.plan_json import Whole


class AttentionJson(msgspec.Struct, frozen=True):
    """Attention of one layer (Nemotron-NAS, DeciLM)."""

    no_op: bool | None = None
    replace_with_linear: bool | None = None
    n_heads_in_group: Whole | None = None


class OtherAttentionJson(msgspec.Struct, frozen=True):
    """The attention of one type of layers, where it differs from that of the others (Step 3.5)."""

    attention_type: str | None = None
    num_attention_groups: Whole | None = None
    head_dim: Whole | None = None


class BlockJson(msgspec.Struct, frozen=True):
    """One layer, where each was pruned in its own way."""

    attention: AttentionJson | None = None
    block_type: str | None = None


class LinearAttentionJson(msgspec.Struct, frozen=True):
    """The recurrent layers of Kimi-Linear; layers are counted from 1."""

    full_attn_layers: list[Whole] | None = None
    num_heads: Whole | None = None
    head_dim: Whole | None = None
    short_conv_kernel_size: Whole | None = None


class LayerJson(msgspec.Struct, frozen=True):
    """The figures in which one layer differs (Gemma 4 as transformers 5.19 writes it)."""

    head_dim: Whole | None = None
    num_key_value_heads: Whole | None = None


class SparseJson(msgspec.Struct, frozen=True):
    """The indexers of MiniMax M3: 1 for a layer that has one."""

    sparse_attention_freq: list[Whole] | None = None
    sparse_index_dim: Whole | None = None


class RopeJson(msgspec.Struct, frozen=True):
    """How positions are scaled beyond those that the model was trained on; some families have
    this for each kind of layer."""

    rope_type: str | None = None
    type: str | None = None
    factor: float | None = None
    original_max_position_embeddings: Whole | None = None
    full_attention: RopeJson | None = None
    sliding_attention: RopeJson | None = None

    @property
    def kind(self) -> str:
        return self.rope_type or self.type or "default"

    @property
    def each(self) -> list[RopeJson]:
        nested = [self.full_attention, self.sliding_attention]
        return [each for each in nested if each is not None] or [self]


class VerifierJson(msgspec.Struct, frozen=True):
    name_or_path: str | None = None


class ProposalJson(msgspec.Struct, frozen=True):
    speculative_tokens: Whole | None = None


class SpeculatorsJson(msgspec.Struct, frozen=True):
    """The model that a speculator guesses for, and how many tokens it guesses at once."""

    verifier: VerifierJson = VerifierJson()
    proposal_methods: list[ProposalJson] = []
