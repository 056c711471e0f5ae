"""The memory that layers keep of each sequence."""

from __future__ import annotations

from typing import Literal

import msgspec

#: Keys and values of the whole context, of a window of it, or of all that an encoder has read; or
#: a state of fixed size.
Kind = Literal["full", "window", "cross", "state"]


class CacheLayers(msgspec.Struct, frozen=True):
    """Layers that keep the same. Sizes are those of the whole model, before it is divided."""

    kind: Kind
    layers: int
    #: KV heads; tensor parallelism divides them unless all GPUs keep the same (`is_shared`).
    heads: int = 1
    #: Elements of one key and one value together; of what latent attention keeps.
    elements: int = 0
    is_shared: bool = False
    #: Tokens that a windowed layer looks back; those of an encoder that cross-attention looks at.
    window: int = 0
    #: Bytes of one sequence's state in each layer.
    state_bytes: int = 0
    #: Bytes per token, where they do not depend on the cache's type.
    fixed_bytes: int = 0
    #: Tokens in a block, where layers of several widths share one pool of blocks.
    block: int = 0
    #: Tokens that share one entry of so many bytes, where layers compress.
    every: int = 1
    #: Bytes per token of a cache in eight bits, where it has scales and exact elements in it.
    packed_bytes: int = 0

    def __str__(self) -> str:
        if self.kind == "state":
            return f"{self.layers} recurrent layers of {self.state_bytes} bytes a sequence"
        what = f"a window of {self.window}" if self.window else "the whole context"
        what = f"{self.window} tokens of an encoder" if self.kind == "cross" else what
        width = f"{self.heads} x {self.elements}" if self.elements else f"{self.fixed_bytes} bytes"
        each = "a token" if self.every == 1 else f"for {self.every} tokens"
        return f"{self.layers} layers that keep {what} ({width} {each})"
