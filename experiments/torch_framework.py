"""PyTorch, as models of experiments use it; see :mod:`.framework`."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree

from ..torch_impl import State, compiled_steps
from .framework import FAULTLESS, Model, Optimiser, Params, StackSettings, Trained, Tree
from .runs import Arrays, prefixed, without_prefix
from .torch_stacks import FloatStack, RevStack

# Whether batches of unequal sizes should be filled up, each size being compiled anew.
FILLS_UP: Final = False


def device() -> torch.device:
    """Return where everything is computed."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def lookup(table: Tensor, numbers: Tensor) -> Tensor:
    """Return rows of a table."""
    return nn.functional.embedding(numbers, table)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the sum of the losses, nats, of logits ``[C, B, V]``; -100 is no target."""
    flat = logits.flatten(0, 1), targets.flatten()
    return nn.functional.cross_entropy(*flat, ignore_index=-100, reduction="sum")


linear, einsum, tanh, where = nn.functional.linear, torch.einsum, torch.tanh, torch.where
concatenate, softmax, log_softmax = torch.cat, torch.softmax, torch.log_softmax


def over(drop: Any, inputs: Tensor) -> Any:
    """Return the dropout of a whole sequence."""
    return drop


def first_fault(first: Any, second: Any) -> Any:
    """Return the status of two calls: faults are raised, so there is none."""
    return FAULTLESS


class Dropout:
    """See :class:`.framework.Dropout`; without a seed nothing is dropped.

    What is not locked is drawn from PyTorch's own generator, which reversal sets back.
    """

    def __init__(self, seed: int | None = None) -> None:
        """Drop as a seed decides."""
        self.seed = seed

    @property
    def is_active(self) -> bool:
        """Whether anything is dropped."""
        return self.seed is not None

    def __call__(self, name: str, rate: float, x: Tensor, locked: bool = False) -> Tensor:
        """Return ``x`` with elements dropped."""
        if self.seed is None or not rate:
            return x
        return x * self.factors(name, rate, x[:1]) if locked else nn.functional.dropout(x, rate)

    def factors(self, name: str, rate: float, like: Tensor) -> Tensor:
        """Return the same factors at every call in the sequence."""
        if self.seed is None:
            return torch.ones_like(like)
        own = seed_of(self.seed, zlib.crc32(name.encode()))
        generator = torch.Generator(like.device).manual_seed(own)
        drawn = torch.rand(like.shape, generator=generator, device=like.device)
        return (drawn >= rate).to(like.dtype) / (1 - rate)


def seed_of(*numbers: int) -> int:
    """Return a seed that all these numbers decide."""
    return int(np.random.SeedSequence(list(numbers)).generate_state(1)[0])


def make_stack(settings: StackSettings) -> Any:
    """Return a stack of any cell; its parameters have no values yet."""
    return (RevStack if settings.is_reversible else FloatStack)(settings, device())


def apart(function: Callable[[Params], tuple[Tree, Any]], params: Params) -> Any:
    """Return what a function gives without its graph, its status, and the way back.

    The way back takes gradients of what the function gave, and returns those of its parameters.
    """
    values, status = function(params)
    flat, spec = _pytree.tree_flatten(values)

    def pull(grads: Tree) -> Params:
        torch.autograd.backward(flat, _pytree.tree_leaves(grads))
        return {}

    return _pytree.tree_unflatten([value.detach() for value in flat], spec), status, pull


class Updates:
    """An optimiser of named parameters, as updates change them and checkpoints hold them."""

    def __init__(self, names: Mapping[str, nn.Parameter], optimiser: Optimiser) -> None:
        """Make the optimiser; the learning rate comes with each update."""
        self.names, self.clip = names, optimiser.clip
        kind = torch.optim.SGD if optimiser.kind == "sgd" else torch.optim.AdamW
        self.optimiser: torch.optim.Optimizer = kind(
            names.values(), lr=1.0, weight_decay=optimiser.weight_decay
        )

    def change(self, learning_rate: float) -> None:
        """Change the parameters by their gradients, first clipped together."""
        nn.utils.clip_grad_norm_(self.names.values(), self.clip)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate
        self.optimiser.step()

    def parameters(self) -> Arrays:
        """Return a copy of the parameters."""
        return {name: value.detach().cpu().numpy().copy() for name, value in self.names.items()}

    @torch.no_grad()
    def set_parameters(self, arrays: Arrays) -> None:
        """Give the parameters new values."""
        for name, value in self.names.items():
            if arrays[name].shape != value.shape:
                raise ValueError(f"{name} of shape {arrays[name].shape}, not {tuple(value.shape)}")
            value.copy_(torch.from_numpy(arrays[name]))

    def arrays(self) -> Arrays:
        """Return a copy of parameters and optimiser."""
        copies = prefixed("parameters", self.parameters())
        for name, parameter in self.names.items():
            for key, value in self.optimiser.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    copies[f"optimiser/{key}/{name}"] = value.cpu().numpy().copy()
        return copies

    def restore(self, arrays: Arrays) -> None:
        """Go on from what :meth:`arrays` gave."""
        self.set_parameters(without_prefix("parameters", arrays))
        for key, value in without_prefix("optimiser", arrays).items():
            kind, _, name = key.partition("/")
            parameter, tensor = self.names[name], torch.from_numpy(value.copy())
            # Adam's count of updates stays on the host.
            moved = tensor if kind == "step" else tensor.to(parameter.device)
            self.optimiser.state[parameter][kind] = moved


class Training(Updates):
    """See :class:`.framework.Training`."""

    def __init__(
        self, model: Model, optimiser: Optimiser, first: Arrays, compiled: bool = False
    ) -> None:
        """Begin with first values."""
        own: dict[str, nn.Parameter] = {}
        for stack in model.stacks:
            own |= stack.parameters
        for name, shape in model.shapes.items():
            if name not in own:
                own[name] = nn.Parameter(torch.empty(shape, device=device()))
        if compiled:
            # What runs before in this process compiled counts against a limit of programs.
            torch.compiler.reset()
        self.compiled = compiled
        super().__init__({name: own[name] for name in model.shapes}, optimiser)
        self.set_parameters(first)
        self.model, self.params = model, dict(self.names)

    def _dropout(self, at: tuple[int, int] | None) -> Dropout:
        if at is None:
            return Dropout()
        seed = seed_of(at[0], 2, at[1])
        torch.manual_seed(seed)
        return Dropout(seed)

    def update(self, state: Tree, batch: Tree, at: tuple[int, int], rate: float) -> Any:
        """Train on a batch and return the loss and the new state."""
        self.optimiser.zero_grad()
        drop = self._dropout(at)
        with compiled_steps(self.compiled):
            trained = self.model.gradients(self.params, state, tensors(batch), drop)
        self.change(rate)
        return float(trained.loss), trained.end

    def gradients(
        self,
        function: Callable[..., Trained],
        state: Tree,
        batch: Tree,
        at: tuple[int, int] | None = None,
    ) -> tuple[Arrays, Trained]:
        """Return the gradients at a batch, and the rest."""
        self.optimiser.zero_grad()
        trained = function(self.params, state, tensors(batch), self._dropout(at))
        grads = {
            n: v.grad.cpu().numpy().copy() for n, v in self.names.items() if v.grad is not None
        }
        self.optimiser.zero_grad()
        return grads, trained

    @torch.no_grad()
    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what a method of the model gives."""
        with compiled_steps(self.compiled):
            return function(self.params, *map(tensors, arguments))[0]


def tensors(tree: Tree) -> Tree:
    """Return a tree with NumPy's arrays as tensors; whole numbers are int64."""

    def tensor(value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        made = torch.from_numpy(value).to(device())
        return made.long() if value.dtype == np.int32 else made

    return _pytree.tree_map(tensor, tree)


def named_state(state: Tree) -> dict[str, Tensor]:
    """Return the parts of an exact state, by name; of another state nothing."""
    return state.tensors() if isinstance(state, State) else {}


def state_arrays(state: Tree) -> Arrays:
    """Return a copy of a state's arrays, by name."""
    named = named_state(state)
    if not isinstance(state, State):
        named = {str(i): value for i, value in enumerate(_pytree.tree_leaves(state))}
    return {name: value.cpu().numpy().copy() for name, value in named.items()}


def state_from(arrays: Arrays, like: Tree) -> Tree:
    """Return the state that :func:`state_arrays` took apart, of the structure of ``like``."""
    named = {name: torch.from_numpy(value).to(device()) for name, value in arrays.items()}
    if isinstance(like, State):
        return State(named["h"], named.get("c"), named.get("heads"), like.config)
    leaves, spec = _pytree.tree_flatten(like)
    return _pytree.tree_unflatten([named[str(i)] for i in range(len(leaves))], spec)
