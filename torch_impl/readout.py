"""A readout and an embedding that add their gradients in place, block by block.

Ordinary autograd makes a gradient as large as the whole weight for every chunk and adds it
afterwards; with a large vocabulary that is most of the memory and much of the time of a chunk.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from revrnn.errors import RevRNNError, one_of

# Rows whose logits exist at a time.
_BLOCK_ROWS = 512


class LinearCrossEntropy(nn.Module):
    """A linear layer and the cross-entropy of its logits, as one readout.

    Called, it is the two in ordinary autograd. :func:`~revrnn.torch_impl.value_and_grad` and
    :func:`~revrnn.torch_impl.value` know it and let only a block of the logits exist at a time.
    """

    def __init__(
        self, linear: nn.Linear, *, ignore_index: int = -100, reduction: str = "mean"
    ) -> None:
        """Read out by ``linear``, which may share its weight with an embedding.

        Args:
            linear: from ``hidden_size`` to classes.
            ignore_index: targets that count nothing.
            reduction: ``"mean"`` over the targets that count, or ``"sum"``.
        """
        super().__init__()
        if reduction not in ("mean", "sum"):
            raise RevRNNError("E_ARGUMENT", "reduction", repr(reduction), one_of(("mean", "sum")))
        self.linear = linear
        self.ignore_index, self.reduction = ignore_index, reduction

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of outputs ``[C, B, H]`` and class numbers ``[C, B]``."""
        return nn.functional.cross_entropy(
            self.linear(outputs).flatten(0, -2), targets.flatten(),
            ignore_index=self.ignore_index, reduction=self.reduction,
        )  # fmt: skip

    @torch.no_grad()
    def loss_and_grad(
        self, outputs: Tensor, targets: Tensor, scale: float | Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the loss and, times ``scale``, the gradient of the outputs.

        The layer's own gradients, times ``scale``, are added to ``.grad``. With ``scale`` ``None``
        there are no gradients.
        """
        weight, bias = self.linear.weight, self.linear.bias
        x, wanted = outputs.flatten(0, -2), targets.flatten()
        counts = wanted != self.ignore_index
        size = counts.sum().to(x.dtype) if self.reduction == "mean" else x.new_ones(())
        total, dx = x.new_zeros(()), None if scale is None else torch.empty_like(x)
        into = [_grad(p) if scale is not None else None for p in (weight, bias)]
        for begin in range(0, len(x), _BLOCK_ROWS):
            rows = slice(begin, begin + _BLOCK_ROWS)
            logits = self.linear(x[rows])
            chosen = wanted[rows].clamp(min=0).unsqueeze(1)
            norm = logits.logsumexp(1, keepdim=True)
            keep = counts[rows].unsqueeze(1)
            total += ((norm - logits.gather(1, chosen)) * keep).sum()
            if dx is None:
                continue
            assert scale is not None
            # Softmax, less one at the target: the gradient of the logits.
            p = logits.sub_(norm).exp_()
            p.scatter_add_(1, chosen, p.new_full(chosen.shape, -1.0))
            p.mul_(keep * (scale / size))
            torch.mm(p, weight, out=dx[rows])
            if into[0] is not None:
                into[0].addmm_(p.t(), x[rows])
            if into[1] is not None:
                into[1] += p.sum(0)
        return total / size, None if dx is None else dx.view(outputs.shape)


def _grad(parameter: Tensor | None) -> Tensor | None:
    """Return the gradient to add to, made if there is none yet; ``None`` if none is wanted."""
    if parameter is None or not parameter.requires_grad:
        return None
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def adds_in_place(embed: object) -> bool:
    """Say whether :func:`add_embedding_gradient` can do what autograd would."""
    return (
        type(embed) is nn.Embedding
        and not embed.sparse
        and not embed.scale_grad_by_freq
        and embed.max_norm is None
        and embed.weight.is_leaf
        and not embed._forward_hooks
        and not embed._backward_hooks
    )


@torch.no_grad()
def add_embedding_gradient(embed: nn.Embedding, tokens: Tensor, dx: Tensor) -> None:
    """Add the gradient of an embedding's rows for tokens ``[C, B]``, from ``[C, B, E]``."""
    into = _grad(embed.weight)
    if into is None:
        return
    if embed.padding_idx is not None:
        dx = dx * (tokens != embed.padding_idx).unsqueeze(-1)
    into.index_add_(0, tokens.flatten(), dx.flatten(0, 1).to(into.dtype))
