"""A readout and an embedding that compute their gradients in place, block by block.

Autograd makes a gradient of the size of the whole weight for every chunk and adds it afterwards;
with a large vocabulary that takes most of a chunk's memory and much of its time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from revrnn.errors import RevRNNError

from .checks import BLOCK_TARGETS, LOSS_SETTINGS, check_classes, check_targets_of, check_tensor
from .collect import Collector
from .native.engine import compiled_readout
from .quantise import wide
from .shortcuts import is_bare, is_plain_linear

# Logits that exist at a time (5 MB), and rows of them: fewer rows make products slow, more do not
# make them faster.
_BLOCK_LOGITS = 5 * 2**18
_FEWEST_ROWS, _MOST_ROWS = 64, 512


class LinearCrossEntropy(nn.Module):
    """A linear layer and the cross-entropy of its logits, as one readout.

    Called as a function, it computes both in ordinary autograd. In
    :func:`~revrnn.torch_impl.value_and_grad` and :func:`~revrnn.torch_impl.value` the loss is what
    ``F.cross_entropy`` gives for all steps at once, with ignored targets, class weights and label
    smoothing, and only a block of the logits exists at a time. (If no target counts, the mean is
    NaN and its gradient 0, as in PyTorch.)
    """

    weight: Tensor | None
    ignore_index: int
    reduction: str
    label_smoothing: float

    def __init__(
        self,
        linear: Callable[[Tensor], Tensor],
        *,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        """Read out by ``linear``, which may share its weight with an embedding.

        Args:
            linear: from ``hidden_size`` to classes; an ``nn.Linear`` or a replacement.
            weight: of the classes, float ``[classes]``.
            ignore_index: targets of this class number are ignored.
            reduction: ``"mean"`` over the targets that count, each as its class weighs, or
                ``"sum"``.
            label_smoothing: the share of each target spread over all classes, 0 … 1.
        """
        super().__init__()
        LOSS_SETTINGS["linear"](linear)
        if weight is not None:
            classes = getattr(linear, "out_features", None)
            check_tensor("weight", weight, None, (classes,))
        self.linear = linear
        self.register_buffer("weight", weight)
        self.ignore_index, self.reduction = ignore_index, reduction
        self.label_smoothing = label_smoothing

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; settings are checked."""
        check = LOSS_SETTINGS.get(name)
        super().__setattr__(name, value if check is None else check(value))

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of outputs ``[C, B, H]`` and targets.

        Args:
            outputs: of the recurrent module.
            targets: class numbers, int64 ``[C, B]``, or probabilities, float ``[C, B, classes]``;
                in another order of axes a :class:`RevRNNError`.
        """
        given: object = outputs
        if not isinstance(given, Tensor):
            raise RevRNNError("E_DTYPE", "outputs", type(given).__name__, "a torch.Tensor")
        logits: Any = self.linear(outputs)
        if not isinstance(logits, Tensor):
            given = type(logits).__name__
            raise RevRNNError("E_DTYPE", "linear", f"{given} as its result", "a torch.Tensor")
        check_targets_of(logits, targets)
        logits = logits.reshape(-1, logits.shape[-1])  # one row alone is a row
        flat = targets.reshape(logits.shape) if targets.is_floating_point() else targets.flatten()
        if self.weight is not None:
            check_tensor("weight", self.weight, None, logits.shape[1:])
        try:
            return nn.functional.cross_entropy(
                logits,
                flat,
                self.weight,
                ignore_index=self.ignore_index,
                reduction=self.reduction,
                label_smoothing=self.label_smoothing,
            )
        except IndexError:  # the layer may not have said how many classes there are
            check_classes("targets", targets, logits.shape[1], self.ignore_index)
            raise

    def extra_repr(self) -> str:
        """Return what differs from the defaults."""
        plain = {"ignore_index": -100, "reduction": "mean", "label_smoothing": 0.0}
        given = [f"{n}={getattr(self, n)!r}" for n, v in plain.items() if getattr(self, n) != v]
        return ", ".join(given)

    # --- targets -----------------------------------------------------------------------------

    def check_targets(
        self, targets: object, steps: int, rows: int, device: torch.device, name: str = "targets"
    ) -> None:
        """Raise unless targets are as PyTorch allows them, with one synchronisation."""
        classes = getattr(self.linear, "out_features", None)
        classes = classes if isinstance(classes, int) else None
        if self.weight is not None:
            check_tensor("readout.weight", self.weight, None, (classes,), device)
            classes = len(self.weight)
        if isinstance(targets, Tensor) and targets.is_floating_point():
            check_tensor(name, targets, None, (steps, rows, classes), device)
            if self.ignore_index >= 0:
                allowed = "class numbers if ignore_index is given"
                raise RevRNNError("E_DTYPE", name, f"probabilities, {targets.dtype}", allowed)
            return
        check_tensor(name, targets, [torch.int64, torch.uint8], (steps, rows), device)
        check_classes(name, targets, classes, self.ignore_index)

    @torch.no_grad()
    def count(self, targets: Tensor) -> Tensor:
        """Return the divisor of a mean: the number of targets, or the sum of their weights."""
        if targets.is_floating_point():
            return targets.new_tensor(targets.numel() // targets.shape[-1], dtype=torch.float32)
        counts = [
            self._weights(part).sum() for part in torch.split(targets.flatten(), BLOCK_TARGETS)
        ]
        return torch.stack(counts).sum()

    def _weights(self, targets: Tensor) -> Tensor:
        """Return the weights in the mean of targets ``[N]``, class numbers."""
        keep = targets != self.ignore_index
        if self.weight is None:
            return keep.to(torch.float32)
        weight = wide(self.weight)
        return torch.where(keep, weight[torch.where(keep, targets, 0).long()], 0)

    # --- the short cut -----------------------------------------------------------------------

    @torch.no_grad()
    def sum_and_grad(
        self, outputs: Tensor, targets: Tensor, scale: Tensor | None, into: Collector
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the sum of the losses, how much it counts, and the gradient of the outputs.

        Gradients are those of the sum times ``scale``; the layer's own go to ``into``. With
        ``scale`` ``None`` there are none.
        """
        linear: Any = self.linear
        x = outputs.flatten(0, -2)
        shares = targets.is_floating_point()
        wanted = targets.flatten(0, -2) if shares else targets.flatten()
        dx = None if scale is None else torch.empty_like(x)
        of_weight, of_bias = (
            None if scale is None else into.in_place(p) for p in (linear.weight, linear.bias)
        )
        if not shares and not self.label_smoothing:
            compiled = compiled_readout(linear, x)
            if compiled is not None:
                weights, keep = self._weights(wanted), wanted != self.ignore_index
                certain = torch.where(keep, wanted, 0).long()
                factors = None if scale is None else weights * scale.float()
                losses, dx = compiled(linear, x, certain, weights, factors, of_weight, of_bias)
                total = torch.where(keep, losses, 0).sum()
                return total, weights.sum(), None if dx is None else dx.view(outputs.shape)
        sums, counts = [], []
        block_rows = min(max(_BLOCK_LOGITS // linear.out_features, _FEWEST_ROWS), _MOST_ROWS)
        for begin in range(0, len(x), block_rows):
            rows = slice(begin, begin + block_rows)
            logits = wide(linear(x[rows]))
            block = (self._shares if shares else self._classes)(logits, wanted[rows])
            sums.append(block.loss)
            counts.append(block.counted)
            if dx is None or scale is None:
                continue
            p = block.gradient().mul_(scale.to(logits.dtype)).to(x.dtype)
            dx[rows] = p @ linear.weight
            if of_weight is not None:
                if of_weight.dtype == x.dtype:
                    of_weight.addmm_(p.t(), x[rows])
                else:  # summed in float32
                    of_weight += p.t() @ x[rows]
            if of_bias is not None:
                of_bias += p.sum(0, dtype=of_bias.dtype)
        total, count = torch.stack(sums).sum(), torch.stack(counts).sum()
        return total, count, None if dx is None else dx.view(outputs.shape)

    def _classes(self, logits: Tensor, targets: Tensor) -> _Block:
        """Compute a block with class numbers ``[N]``."""
        keep = targets != self.ignore_index
        chosen = torch.where(keep, targets, 0).long().unsqueeze(1)
        counts = self._weights(targets).to(logits.dtype)
        norm = logits.logsumexp(1, keepdim=True)
        of_chosen = (norm - logits.gather(1, chosen)).squeeze(1)
        smoothing, classes = self.label_smoothing, logits.shape[1]
        certain = (1 - smoothing) * counts
        loss = torch.where(keep, certain * of_chosen, 0).sum()
        weight = None if self.weight is None else self.weight.to(logits.dtype)
        each = smoothing / classes * keep.to(logits.dtype)  # spread over all classes
        whole = certain
        if smoothing:
            all_weight = classes if weight is None else weight.sum()
            weighed = logits.sum(1) if weight is None else logits @ weight
            smooth = norm.squeeze(1) * all_weight - weighed
            loss = loss + torch.where(keep, each * smooth, 0).sum()
            whole = certain + each * all_weight

        def gradient() -> Tensor:
            # Softmax times the sum of all shares, less each class's share.
            p = logits.sub_(norm).exp_().mul_(whole.unsqueeze(1))
            p.scatter_add_(1, chosen, -certain.unsqueeze(1))
            if smoothing:
                p -= each.unsqueeze(1) if weight is None else each.outer(weight)
            return p

        return _Block(loss, counts.sum(), gradient)

    def _shares(self, logits: Tensor, targets: Tensor) -> _Block:
        """Compute a block with probabilities ``[N, classes]``."""
        smoothing, classes = self.label_smoothing, logits.shape[1]
        share = targets.to(logits.dtype)
        if smoothing:
            share = share * (1 - smoothing) + smoothing / classes
        if self.weight is not None:
            share = share * self.weight.to(logits.dtype)
        norm = logits.logsumexp(1, keepdim=True)
        loss = ((norm - logits) * share).sum()

        def gradient() -> Tensor:
            p = logits.sub_(norm).exp_().mul_(share.sum(1, keepdim=True))
            return p.sub_(share)

        return _Block(loss, logits.new_tensor(float(len(logits))), gradient)


class _Block(NamedTuple):
    """The loss of some rows, what it counts, and how to turn their logits into gradients."""

    loss: Tensor
    counted: Tensor
    gradient: Callable[[], Tensor]


def reads_in_place(readout: object, targets: object) -> bool:
    """Say whether :meth:`LinearCrossEntropy.sum_and_grad` gives what calling ``readout`` would."""
    return (
        is_bare(readout, LinearCrossEntropy)
        and is_plain_linear(readout.linear)  # type: ignore[attr-defined]
        and isinstance(targets, Tensor)
        and not targets.requires_grad
        and not (readout.weight is not None and readout.weight.requires_grad)  # type: ignore[attr-defined]
    )


@torch.no_grad()
def add_embedding_gradient(
    embed: nn.Embedding,
    tokens: Tensor,
    dx: Tensor,
    into: Collector,
    add_rows: Callable[[Tensor, Tensor, Tensor], None],
    often: Tensor | None,
) -> None:
    """Add the gradient of an embedding's rows for tokens ``[C, B]``, from ``[C, B, E]``.

    ``add_rows`` is an engine's (:mod:`.conversions`); ``often`` is how often each token occurs in
    the whole sequence, if gradients are divided by that (``scale_grad_by_freq``).
    """
    total = into.in_place(embed.weight)
    if total is None:
        return
    if embed.padding_idx is not None:
        dx = dx * (tokens != embed.padding_idx).unsqueeze(-1)
    if often is not None:
        dx = dx / often[tokens.long()].unsqueeze(-1)
    add_rows(total, tokens.flatten().long(), dx.flatten(0, -2).to(total.dtype))
