"""Luong's 'general' attention, on top of a decoder, in PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """From a decoder's outputs ``h`` and a context to ``tanh(W·[seen, h])``.

    The score of a source position with context ``s`` is ``hᵀ·A·s``; what is ``seen`` is the mean of
    all ``s`` in the proportion of ``exp`` of the scores (Luong et al., 2015).

    The context comes in parts (embeddings, units of the encoder) that are never put side by side in
    memory.
    """

    def __init__(self, hidden_size: int, sizes: list[int]) -> None:
        """Attend from ``hidden_size`` units to parts of the given widths."""
        super().__init__()
        self.sizes = sizes
        self.score = nn.Parameter(torch.empty(sum(sizes), hidden_size))
        self.combine = nn.Parameter(torch.empty(hidden_size, sum(sizes) + hidden_size))

    def weights(self, outputs: Tensor, context: list[Tensor], mask: Tensor) -> Tensor:
        """Return the weights ``[B, T, S]`` of source positions for outputs ``[T, B, H]``.

        Args:
            outputs: of the decoder.
            context: its parts, ``[S, B, ·]`` each.
            mask: bool ``[S, B]``, which positions a sentence has.
        """
        queries = torch.split(nn.functional.linear(outputs, self.score), self.sizes, 2)
        scores = outputs.new_zeros(())
        for query, part in zip(queries, context, strict=True):
            scores = scores + query.transpose(0, 1) @ part.permute(1, 2, 0)
        # Finite, so that a row without positions gives no NaN.
        return scores.masked_fill(~mask.T[:, None], -1e9).softmax(2)

    def forward(self, outputs: Tensor, context: list[Tensor], mask: Tensor) -> Tensor:
        """Return ``[T, B, H]``; arguments as in :meth:`weights`."""
        weights = self.weights(outputs, context, mask)
        seen = [(weights @ part.transpose(0, 1)).transpose(0, 1) for part in context]
        return torch.tanh(nn.functional.linear(torch.cat([*seen, outputs], 2), self.combine))
