"""The inputs of a recurrent stack, made from the user's data chunk by chunk, and their gradients.

Each chunk's input is made in the forward pass, again where a piece is run again from a checkpoint,
and again in the backward pass, then with the graph that carries its gradient on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from revrnn.config import Config
from revrnn.errors import RevRNNError

from .call_hooks import CallHooks
from .checks import check_tensor
from .collect import Collector, now
from .conversions import Conversions
from .embedded import Embedded
from .quantise import ALONE, operand_passes
from .readout import add_embedding_gradient
from .repeat import Repeat, modules_of
from .results import named_failure
from .shortcuts import is_plain_embedding
from .trees import Tree, as_given, lengths


class Cut:
    """Data cut along its steps; the gradient of the whole is written part by part."""

    def __init__(self, data: Any) -> None:
        """Take a tensor, anything that has ``data[first:stop]``, or a :class:`.trees.Tree`."""
        self.data = data
        self._each = [Cut(leaf) for leaf in data.leaves] if isinstance(data, Tree) else []
        self.wanted = isinstance(data, Tensor) and data.requires_grad
        self.gradient: Tensor | None = None
        self._parts: dict[int, Tensor] = {}

    def part(self, first: int, stop: int, grad: bool = False) -> Any:
        """Return some steps; with ``grad`` as the leaf of a graph, if a gradient is wanted."""
        if self._each:
            return Tree([one.part(first, stop, grad) for one in self._each], self.data.structure)
        if not isinstance(self.data, Tensor):
            return None if self.data is None else self.data[first:stop]
        part = self.data.detach()[first:stop] if self.wanted else self.data[first:stop]
        if part.is_inference() and not torch.is_inference_mode_enabled():
            part = part.clone()  # else autograd could not keep it
        if grad and self.wanted:
            part.requires_grad_()
            self._parts[first] = part
        return part

    def collect(self, first: int, into: Collector) -> None:
        """Write a part's gradient to its place."""
        for one in self._each:
            one.collect(first, into)
        part = self._parts.pop(first, None)
        gradient = None if part is None else into.take(part)
        if gradient is not None:
            if self.gradient is None:
                self.gradient = torch.zeros_like(self.data, requires_grad=False)
            self.gradient[first : first + len(gradient)] = gradient

    def hand_on(self, into: Collector) -> None:
        """Pass the gradient of the whole on to what the data was made from."""
        for one in self._each:
            one.hand_on(into)
        if self.gradient is not None:
            into.add(self.data, self.gradient)
            self.gradient = None

    def leaves(self) -> list[Tensor]:
        """Return the tensors of which a gradient is wanted."""
        within = [leaf for one in self._each for leaf in one.leaves()]
        return [*within, self.data] if self.wanted else within


class ChunkInputs:
    """Operands of chunks, and where their gradients go.

    Attributes:
        made: inputs as made in the backward pass, by a chunk's first step, for forward hooks.
        none_saturated: whether it is known that no operand was at an end of its range.
    """

    def __init__(
        self,
        data: Any,
        embed: Callable[[Any], Tensor] | None,
        config: Config,
        device: torch.device,
        conversions: Conversions,
        hooks: CallHooks,
        autocast: Callable[[], Any],
        into: Collector | None,
    ) -> None:
        """Take the data and the functions that are applied to it.

        Args:
            data: the user's, ``[T, B, …]``, or a :class:`.trees.Tree` of such.
            embed: from a cut of the data to inputs, or ``None``.
            config: of the stack.
            device: of the stack.
            conversions: of its engine.
            hooks: of the stack's module.
            autocast: gives the caller's autocast.
            into: where gradients go; ``None`` if there is no backward pass.
        """
        self.cut, self.embed, self.config, self.device = Cut(data), embed, config, device
        self.conversions = conversions
        self.hooks, self.autocast, self.into = hooks, autocast, into
        self.steps, self.rows = lengths(data)
        self.in_place = is_plain_embedding(embed) and not (hooks.before or hooks.after)
        self.made: dict[int, Tensor] = {}
        self.none_saturated = False
        self._since: dict[int, int] = {}
        self._early: dict[int, Tensor] = {}
        self._start: Tensor | None = None
        self._finite: list[Tensor] = []
        self._often: Tensor | None = None
        self._repeat: Repeat | None = None
        self._embedded_apart: Embedded | None = None
        if into is not None and not self.in_place and (embed is not None or hooks.before):
            self._repeat = Repeat((embed, hooks.module) if hooks.before else embed, device)

    def check_cuts(self, chunk_size: int) -> None:
        """Raise ``E_UNSUPPORTED`` for gradients that depend on how steps are cut."""
        if self.in_place or self.embed is None or self.steps <= chunk_size:
            return
        back = self.into is not None
        self._embedded_apart = Embedded(self.embed, chunk_size, self.steps, back)
        if self.into is None:
            return
        for module in modules_of(self.embed):
            if isinstance(module, nn.Embedding) and module.scale_grad_by_freq:
                given = "scale_grad_by_freq inside another function, which sees a chunk at a time"
                allowed = "the nn.Embedding itself as embed; or one chunk"
                raise RevRNNError("E_UNSUPPORTED", "embed", given, allowed)

    # --- forwards and again ------------------------------------------------------------------

    def start(self, chunk_size: int) -> Tensor:
        """Make the first chunk before anything else; return its input, with its graph."""
        if self._start is None:
            self._start, self._early[0] = self._first(0, min(chunk_size, self.steps))
        return self._start

    def forwards(self, first: int, stop: int) -> Tensor:
        """Return a chunk's operands, for the first time."""
        if first in self._early:
            self._start = None
            return self._early.pop(first)
        return self._first(first, stop)[1]

    def _first(self, first: int, stop: int) -> tuple[Tensor, Tensor]:
        apart, self._embedded_apart = self._embedded_apart, None
        with self._calling(self._repeat and self._repeat.first(first)):
            part = self._own(self.cut.part(first, stop))
            x = self._embedded(part, stop - first, apart and apart.watch(part))
            if apart is not None:
                apart.note(x)
            if self.hooks.before:
                x = self.hooks.start(x) if first == 0 else self.hooks.inputs(x, again=False)
        if apart is not None:
            with self.autocast():
                apart.check(self.cut.part)
        if self.into is None and self.hooks.after:
            self.made[first] = x  # the readout follows at once
        self._finite.append(self.conversions.is_finite(x.detach()))
        q = self._operands(x)
        if self._repeat is not None:
            self._repeat.note(first, q)
        return x, q

    def again(self, first: int, stop: int) -> Tensor:
        """Return the same operands."""
        return self._again(first, stop, self.cut.part(first, stop))[1]

    def backwards(self, first: int, stop: int) -> Tensor:
        """Return the same operands, keeping the graph by which they were made."""
        self._since[first] = now()
        x, q = self._again(first, stop, self.cut.part(first, stop, grad=True))
        self.made[first] = x
        return q

    def _again(self, first: int, stop: int, part: Any) -> tuple[Tensor, Tensor]:
        with self._calling(self._repeat and self._repeat.again(first)):
            x = self._embedded(self._own(part), stop - first)
            if self.hooks.before:
                x = self.hooks.inputs(x, again=True)
        q = self._operands(x)
        if self._repeat is not None:
            self._repeat.compare(first, q)
        return x, q

    def _own(self, part: Any) -> Any:
        """Return inputs that ``embed`` may change in place: the caller's are needed again."""
        return part if self.embed is None or self.in_place else part.clone()

    def _embedded(self, part: Any, steps: int, watch: Any = None) -> Tensor:
        with self.autocast():
            x: Tensor = part
            if self.embed is not None:
                given, allowed = as_given(part), "a function of a cut of the inputs"
                named = named_failure("embed", self.embed, given, allowed=allowed)
                with watch or nullcontext(), named:
                    x = _looked_up(self.embed, part) if self.in_place else self.embed(given)
        name = "embed" if self.embed is not None else "inputs"
        check_tensor(name, x, None, (steps, self.rows, self.config.input_size), self.device)
        return x

    def _operands(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.conversions.quantise("operand", x.detach(), self.config.formats)

    @contextmanager
    def _calling(self, repeat: Any) -> Iterator[None]:
        """Call the user's functions, within ``repeat`` if they must repeat themselves."""
        # Gradient mode is the same in both passes: what PyTorch computes may depend on it.
        graph = self.into is not None and not self.in_place
        with repeat or nullcontext(), torch.set_grad_enabled(graph):
            yield

    # --- gradients ---------------------------------------------------------------------------

    def backward(self, first: int, dx: Tensor, beside: Tensor | None = None) -> None:
        """Carry a chunk's gradient on to what its input was made from.

        Args:
            first: the chunk's first step.
            dx: the gradient of its operands.
            beside: the gradient that reached its input past the stack, through forward hooks.
        """
        assert self.into is not None
        x, since = self.made.pop(first), self._since.pop(first)
        if not self.none_saturated:
            dx = dx * operand_passes(x.detach(), self.config.formats)  # GRAD-002
        dx = dx if beside is None else dx + beside
        if self.in_place:
            assert isinstance(self.embed, nn.Embedding)
            part = self.cut.part(first, first + len(dx))
            if self.embed.scale_grad_by_freq and self._often is None:
                size, tokens = self.embed.num_embeddings, self.cut.data.flatten()
                self._often = torch.bincount(tokens, minlength=size)
            add_rows = self.conversions.add_rows
            add_embedding_gradient(self.embed, part, dx, self.into, add_rows, self._often)
            return
        # Gradients that the readout left for this chunk's graph go the same way.
        others = self.into.take_since(since)
        if x.requires_grad or others:
            roots: list[Any] = [x] if x.requires_grad else []
            gradients = [dx.to(x.dtype)] if x.requires_grad else []
            roots += [edge for edge, _ in others]
            self.into.backward(roots, gradients + [g for _, g in others], since)
        self.cut.collect(first, self.into)

    # --- faults ------------------------------------------------------------------------------

    def check(self, none_saturated: bool = False) -> None:
        """Raise ``E_NONFINITE`` if an input was NaN or infinite, with one synchronisation."""
        self.none_saturated = none_saturated
        if self._finite and not bool(torch.stack(self._finite).all()):
            name = "inputs" if self.embed is None else "embed"
            raise RevRNNError("E_NONFINITE", name, "NaN or infinity", "finite numbers")

    def check_repeated(self, cause: BaseException | None = None) -> None:
        """Raise ``E_REVERSAL`` if the backward pass was given other inputs."""
        if self._repeat is not None and self._repeat.differs():
            name = "embed" if self.embed is not None else "module"
            raise RevRNNError(
                "E_REVERSAL",
                name,
                "another result for the same inputs in the backward pass",
                "a function that repeats itself: state only in buffers of its modules, random"
                " numbers only from PyTorch's default generators (no generator=)",
            ) from cause


def _looked_up(embed: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
    """Return what a plain ``nn.Embedding`` gives for tokens; on the CPU PyTorch's threads stay out.

    Else they keep their cores busy for milliseconds afterwards, waiting, and hold up the engine's.
    """
    assert isinstance(embed, nn.Embedding)
    many = max(1, ALONE // embed.embedding_dim)
    if tokens.device.type != "cpu" or torch.get_num_threads() == 1 or tokens.numel() <= many:
        return embed(tokens)  # type: ignore[no-any-return]
    out = embed.weight.new_empty((*tokens.shape, embed.embedding_dim))
    cut = torch.split(tokens.flatten(), many), torch.split(out.flatten(0, -2), many)
    for piece, to in zip(*cut, strict=True):
        to.copy_(embed(piece))
    return out
