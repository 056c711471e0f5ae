"""The KV cache and the forward steps of all sequences of one model, as one batch."""

from __future__ import annotations

from typing import Any

import torch


class Batch:
    """Each sequence has a row. Also what transformers calls its cache: `update` is its hook."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._lengths: list[int] = []
        self._free: list[int] = []
        self._layers: list[list[torch.Tensor]] = []
        self._rows = torch.tensor([0])
        self._at = torch.tensor([0])

    def add(self, token_ids: list[int]) -> tuple[int, torch.Tensor]:
        """Compute a prompt. Returns its row, and the logits after its last token."""
        answer = self._model(input_ids=torch.tensor([token_ids]), use_cache=True)
        row = self._free.pop() if self._free else len(self._lengths)
        if row == len(self._lengths):
            self._lengths.append(0)
        layers = [(layer.keys[0], layer.values[0]) for layer in answer.past_key_values.layers]
        if not self._layers:
            self._layers = [
                [each.new_zeros(0, each.shape[0], 0, each.shape[2]) for each in pair]
                for pair in layers
            ]
        self._make_room(len(token_ids) + 1)
        for stored, computed in zip(self._layers, layers, strict=True):
            for place, values in zip(stored, computed, strict=True):
                place[row, :, : len(token_ids)] = values
        self._lengths[row] = len(token_ids)
        return row, answer.logits[0, -1].float()

    def remove(self, row: int) -> None:
        self._lengths[row] = 0
        self._free.append(row)

    def step(self, rows: list[int], token_ids: list[int]) -> torch.Tensor:
        """Append one token to each of these rows. Returns the logits after them."""
        lengths = [self._lengths[row] for row in rows]
        self._make_room(max(lengths) + 1)
        self._rows, self._at = torch.tensor(rows), torch.tensor(lengths)
        longest = max(lengths) + 1
        visible = torch.arange(longest)[None, :] <= self._at[:, None]
        answer = self._model(
            input_ids=torch.tensor(token_ids)[:, None],
            position_ids=self._at[:, None],
            attention_mask=visible[:, None, None, :],
            past_key_values=self,
            use_cache=True,
        )
        for row in rows:
            self._lengths[row] += 1
        return answer.logits[:, -1].float()

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        longest = int(self._at.max()) + 1
        stored = self._layers[layer]
        for place, new in zip(stored, (keys, values), strict=True):
            place[self._rows, :, self._at] = new[:, :, 0]
        return stored[0][self._rows, :, :longest], stored[1][self._rows, :, :longest]

    def get_seq_length(self, layer: int = 0) -> int:
        return int(self._at.max())

    def _make_room(self, tokens: int) -> None:
        for pair in self._layers:
            for index, place in enumerate(pair):
                rows, heads, capacity, width = place.shape
                if rows >= len(self._lengths) and capacity >= tokens:
                    continue
                larger = place.new_zeros(
                    max(rows, 2 * len(self._lengths)), heads, max(capacity, 2 * tokens), width
                )
                larger[:rows, :, :capacity] = place
                pair[index] = larger
