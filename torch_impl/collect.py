"""Gradients of the chunks' graphs, summed until all are known and then passed on once.

A chunk's graph ends at parameters, and possibly at tensors that existed before it, the *outer
graph*: for instance an encoder's output that a readout attends to. The chunk's backward pass stops
at both. So no ``.grad`` changes before all chunks have succeeded, hooks of parameters see whole
gradients as in a plain backward pass, and the outer graph is differentiated once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from revrnn.errors import RevRNNError

from .failures import gradients_whole_or_unchanged
from .quantise import LOW, wide
from .sharded import check_present

# A node of autograd's graph and which of its outputs.
Edge = tuple[Any, int]
_LEAF = "torch::autograd::AccumulateGrad"


def now() -> int:
    """Return a sequence number above those of all nodes made so far in this thread."""
    with torch.enable_grad():
        node: Any = torch.zeros((), device="cpu", requires_grad=True).clone().grad_fn
    return int(node._sequence_nr())


def leaves_of(*roots: Tensor | GradientEdge | None) -> list[Tensor]:
    """Return the leaves below some tensors or edges that require gradients."""
    graph, own = _Graph(0), []
    for root in roots:
        node = root.node if isinstance(root, GradientEdge) else getattr(root, "grad_fn", None)
        if node is not None:
            graph.walk(node)
        elif isinstance(root, Tensor) and root.requires_grad:
            own.append(root)
    return [*own, *graph.leaves.values()]


class _Sum:
    """A sum of gradients; those of low precision are summed in float32."""

    def __init__(self, tensor: Tensor | None) -> None:
        self.tensor, self.owned = tensor, False
        self.value: Tensor | None = None
        self.dtype = None if tensor is None else tensor.dtype  # of the gradients, for an edge

    def add(self, gradient: Tensor | None) -> None:
        if gradient is None:
            return
        gradient = gradient.detach()
        self.dtype = self.dtype or gradient.dtype
        more = wide(gradient)
        if self.value is None:
            self.value, self.owned = more, more is not gradient
        elif self.owned and self.value.layout == torch.strided == more.layout:
            self.value += more
        else:
            self.value, self.owned = self.value + more, True

    def scaled(self, factor: Tensor | None) -> Tensor | None:
        """Return the sum times ``factor``, in the type of its gradients, and drop it."""
        value, owned, self.value = self.value, self.owned, None
        if value is None:
            return None
        if factor is not None:
            factor = factor.to(value.device, value.dtype)
            value = value.mul_(factor) if owned else value * factor
        return value.to(self.dtype)


class Collector:
    """The gradients of the chunks so far."""

    def __init__(self) -> None:
        """Start from nothing."""
        self._tensors: dict[int, _Sum] = {}
        self._outer: dict[Edge, _Sum] = {}

    # --- collecting --------------------------------------------------------------------------

    def add(self, tensor: Tensor, gradient: Tensor | None) -> None:
        """Add to a tensor's gradient."""
        self._of(tensor).add(gradient)

    def in_place(self, tensor: Tensor | None) -> Tensor | None:
        """Return the gradient of ``tensor`` to add to; ``None`` if none is wanted."""
        if tensor is None or not tensor.requires_grad:
            return None
        held = self._of(tensor)
        if not held.owned:
            dtype = torch.float32 if tensor.dtype in LOW else tensor.dtype
            fresh = torch.zeros_like(tensor, dtype=dtype, requires_grad=False)
            if held.value is not None:
                fresh += held.value
            held.value, held.owned = fresh, True
        return held.value

    def take(self, tensor: Tensor) -> Tensor | None:
        """Take a tensor's gradient out of the collection."""
        held = self._tensors.pop(id(tensor), None)
        return None if held is None else held.scaled(None)

    def take_since(self, since: int) -> list[tuple[GradientEdge, Tensor]]:
        """Take out the gradients of outer nodes that are no older than ``since``."""
        young = [edge for edge in self._outer if edge[0]._sequence_nr() >= since]
        pairs = [(GradientEdge(*edge), self._outer.pop(edge).scaled(None)) for edge in young]
        return [(edge, value) for edge, value in pairs if value is not None]

    def backward(
        self, roots: Sequence[Tensor | GradientEdge], gradients: Sequence[Tensor], since: int
    ) -> None:
        """Differentiate ``roots`` down to nodes older than ``since``; keep the gradients."""
        graph = _Graph(since)
        inner: list[tuple[Tensor | GradientEdge, Tensor]] = []
        for root, gradient in zip(roots, gradients, strict=True):
            if isinstance(root, GradientEdge):
                inner.append((root, gradient))
                graph.walk(root.node)
            elif root.grad_fn is None:
                if root.requires_grad:
                    self.add(root, gradient)
            elif root.grad_fn._sequence_nr() < since:
                self._outer_of((root.grad_fn, root.output_nr)).add(gradient)
            else:
                inner.append((root, gradient))
                graph.walk(root.grad_fn)
        if not inner or not (graph.leaves or graph.outer):
            return
        leaves = list(graph.leaves.values())
        begins: list[Any] = [root for root, _ in inner]
        ends: list[Any] = [*leaves, *(GradientEdge(*edge) for edge in graph.outer)]
        # The graph is freed with the chunk's tensors. Until then the user's code may use nodes of
        # it again, such as a weight that is computed once.
        with _without_hooks(leaves), graph.listening(self._outer_of):
            arrived = torch.autograd.grad(
                begins,
                ends,
                [gradient for _, gradient in inner],
                retain_graph=True,
                allow_unused=True,
            )
        for leaf, gradient in zip(leaves, arrived, strict=False):
            self.add(leaf, gradient)

    # --- passing on --------------------------------------------------------------------------

    def beside(self, other: Collector) -> list[tuple[Tensor, Tensor]]:
        """Return each gradient that either has, beside the other's, zeros where one has none."""
        pairs = []
        for own, theirs in ((self._tensors, other._tensors), (self._outer, other._outer)):
            keys: set[Any] = {*own, *theirs}
            for both in (
                [held[key].value for held in (own, theirs) if key in held] for key in keys
            ):
                dense = [value.to_dense() for value in both if value is not None and value.numel()]
                pairs += [(one, dense[1] if dense[1:] else one * 0) for one in dense[:1]]
        return pairs

    def gradients_of(self, tensors: Iterable[Tensor]) -> list[Tensor | None]:
        """Take out the gradients of some tensors, in the tensors' types."""
        return [self.take(tensor) for tensor in tensors]

    def hand_on(self, factor: Tensor | None = None, retain_graph: bool = False) -> None:
        """Run one backward pass that begins with all collected gradients, times ``factor``."""
        held = [one for one in self._tensors.values() if one.value is not None]
        for one in held:
            check_present(one.tensor)
        roots: list[Any] = []
        gradients: list[Tensor | None] = []
        for edge, one in self._outer.items():
            value = one.scaled(factor)
            if value is not None:
                roots.append(GradientEdge(*edge))
                gradients.append(value)
        self._tensors, self._outer = {}, {}
        leaves = leaves_of(*(one.tensor for one in held), *roots)
        if held:
            tensors = [one.tensor for one in held]
            roots.append(_Roots.apply(held, factor, *tensors))  # type: ignore[no-untyped-call]
            gradients.append(None)
        del held
        if roots:
            with gradients_whole_or_unchanged(leaves):
                torch.autograd.backward(roots, gradients, retain_graph=retain_graph)

    def _of(self, tensor: Tensor) -> _Sum:
        return self._tensors.setdefault(id(tensor), _Sum(tensor))

    def _outer_of(self, edge: Edge) -> _Sum:
        return self._outer.setdefault(edge, _Sum(None))


class _Roots(torch.autograd.Function):
    """A root for a backward pass that passes known gradients to tensors.

    Gradients that nothing else refers to become ``.grad`` without being copied.
    """

    @staticmethod
    def forward(ctx: Any, held: list[_Sum], factor: Tensor | None, *tensors: Tensor) -> Tensor:
        ctx.held, ctx.factor = held[:], factor
        held.clear()
        return tensors[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> Any:
        gradients: list[Tensor | None] = []
        while ctx.held:
            one = ctx.held.pop(0)
            gradients.append(one.scaled(ctx.factor))
        return None, None, *gradients


class _Graph:
    """The nodes made since a moment, and the leaves and older nodes that they depend on."""

    def __init__(self, since: int) -> None:
        self.since = since
        self.leaves: dict[int, Tensor] = {}
        self.outer: dict[Edge, None] = {}
        self._seen: set[Any] = set()
        self._at: dict[Any, list[tuple[int, Edge]]] = {}  # nodes with edges to the outer graph

    def walk(self, node: Any) -> None:
        """Go through all nodes below ``node``."""
        waiting = [node]
        self._seen.add(node)
        while waiting:
            node = waiting.pop()
            if self.since and type(node).__name__ == "CheckpointFunctionBackward":
                raise RevRNNError(
                    "E_UNSUPPORTED",
                    "use_reentrant",
                    "True in torch.utils.checkpoint",
                    "use_reentrant=False in what embed and readout call",
                )
            for place, (below, number) in enumerate(node.next_functions):
                if below is None:
                    continue
                if below.name() == _LEAF:
                    self.leaves[id(below.variable)] = below.variable
                elif below._sequence_nr() < self.since:
                    self.outer[below, number] = None
                    self._at.setdefault(node, []).append((place, (below, number)))
                elif below not in self._seen:
                    self._seen.add(below)
                    waiting.append(below)

    @contextmanager
    def listening(self, of: Callable[[Edge], _Sum]) -> Iterator[None]:
        """Collect gradients at edges to the outer graph, before the hooks of its tensors."""

        def listener(places: list[tuple[int, Edge]]) -> Any:
            def hook(grad_inputs: Any, _: Any) -> None:
                for place, edge in places:
                    of(edge).add(grad_inputs[place])

            return hook

        with ExitStack() as handles:
            for node, places in self._at.items():
                handles.callback(node.register_hook(listener(places)).remove)
            yield


@contextmanager
def _without_hooks(leaves: Sequence[Tensor]) -> Iterator[None]:
    """Switch off hooks of parameters, which are to see whole gradients, not parts."""
    hooks: list[tuple[Any, Any]] = []
    try:
        for leaf in leaves:
            own = leaf._backward_hooks
            if own:
                hooks.append((own, list(own.items())))
                own.clear()
        yield
    finally:
        for own, items in hooks:
            own.update(items)
