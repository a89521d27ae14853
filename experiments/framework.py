"""What models of experiments ask of a framework: arrays, dropout, stacks, updates.

A model (:mod:`.lm.model`, :mod:`.nmt.model`) is written once, in terms of what is declared here;
:mod:`.torch_framework` and :mod:`.jax_framework` give it. Parameters are a flat dictionary: those
of a stack begin with its name and a dot.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

import numpy as np

from revrnn.config import Config

from .runs import Arrays
from .settings import FRAMEWORKS, REVERSIBLE
from .training import Trainer

Array = Any
Tree = Any
Params = dict[str, Array]
FAULTLESS: Final = 0


class Dropout(Protocol):
    """Dropout of one sequence; its random numbers depend on the update's number alone."""

    def __call__(self, name: str, rate: float, x: Array, locked: bool = False) -> Array:
        """Return ``x`` ``[C, B, F]`` with elements dropped, in all steps the same if ``locked``.

        ``name`` tells the places of a model apart.
        """
        ...

    def factors(self, name: str, rate: float, like: Array) -> Array:
        """Return factors of the shape of ``like``, the same at every call in the sequence."""
        ...


# From parameters, a cut of the inputs and dropout to inputs of the stack ``[C, B, I]``.
Embed = Callable[[Params, Array, Dropout], Array]
# From parameters, outputs ``[C, B, H]``, a cut of the targets, what is seen beside them, and
# dropout to the sum of the losses, a scalar.
Read = Callable[[Params, Array, Array, Sequence[Array], Dropout], Array]


class Passed(NamedTuple):
    """What a stack gives.

    Attributes:
        outputs: ``[T, B, H]``.
        context: ``[T, B, D]``, the units that attention sees, of a stack with slices.
        final: the last state as floats, where another stack may begin.
        end: the last state to go on from: exact for reversible cells.
        status: 0, or what went wrong, as :func:`revrnn.jax_impl.check` takes it.
    """

    outputs: Array
    context: Array | None
    final: Tree
    end: Tree
    status: Any = FAULTLESS


class Trained(NamedTuple):
    """Loss and gradients of a sequence.

    Attributes:
        loss: the sum of what was read, times the scale.
        grads: of the parameters, by name; in PyTorch they are in ``.grad``, and this is empty.
        of_start: the gradient of the first state, where that is floats.
        of_seen: gradients of what was seen beside the outputs.
        end: the state to go on from.
        status: as in :class:`Passed`.
        report: what it cost to remember, if asked for (PyTorch).
    """

    loss: Array
    grads: Params
    of_start: Tree
    of_seen: Sequence[Array]
    end: Tree
    status: Any = FAULTLESS
    report: Any = None


@dataclass(frozen=True)
class StackSettings:
    """A recurrent stack of any cell.

    Attributes:
        name: what its parameters' names begin with.
        cell: ``"revgru"``, ``"float_revgru"``, ``"gru"``, … .
        sizes: features of the input, units, layers.
        config: of reversible cells and of their likes in float arithmetic.
        dropout: between layers.
        weight_drop: of recurrent weights.
        locked: whether all steps drop the same.
        chunk_size: steps that reversal handles together.
    """

    name: str
    cell: str
    sizes: tuple[int, int, int]
    config: Config | None
    dropout: float
    weight_drop: float = 0.0
    locked: bool = False
    chunk_size: int = 16

    @property
    def is_reversible(self) -> bool:
        """Whether it is trained by reversal."""
        return self.cell in REVERSIBLE

    def centred(self, values: Arrays) -> Arrays:
        """Return first values with the stack's biases where its modules have them."""
        if self.config is None:
            return values
        centre = np.array(self.config.initial_bias(), np.float32)
        start = f"{self.name}.bias"
        return {n: v + centre if n.startswith(start) else v for n, v in values.items()}


@dataclass(frozen=True)
class Given:
    """A sequence whose losses are wanted.

    Attributes:
        inputs: ``[T, B]``.
        targets: ``[T, B]``, -100 where none is.
        embed: makes the stack's inputs.
        read: reads the losses.
        start: the first state, :attr:`Passed.end` or :attr:`Passed.final` of another run.
        drop: dropout.
        seen: what ``read`` sees beside the outputs.
        mask: bool ``[T, B]``, which steps a row has.
    """

    inputs: Array
    targets: Array
    embed: Embed
    read: Read
    start: Tree
    drop: Any
    seen: Sequence[Array] = ()
    mask: Array | None = None


class Stack(Protocol):
    """A recurrent stack; its parameters' names begin with its own."""

    shapes: dict[str, tuple[int, ...]]

    def fresh(self, rows: int) -> Tree:
        """Return a first state, exact for reversible cells."""
        ...

    def run(
        self,
        params: Params,
        x: Array,
        start: Tree,
        drop: Dropout,
        mask: Array | None = None,
        with_outputs: bool = True,
    ) -> Passed:
        """Run over inputs ``[T, B, I]``, without a start from zeros."""
        ...

    def gradients(self, params: Params, given: Given, scale: Any, report: bool = False) -> Trained:
        """Return a loss and its gradients, by reversal chunk by chunk if the stack can.

        ``scale`` is what the losses count; ``report`` asks for the account of what is stored.
        """
        ...

    def measure(self, params: Params, given: Given) -> tuple[tuple[Array, Tree], Any]:
        """Return the sum of the losses and the last state, and the status."""
        ...

    def select(self, state: Tree, rows: Array) -> Tree:
        """Return these rows of a state."""
        ...


class Model(Protocol):
    """A model as :class:`Training` sees it."""

    shapes: dict[str, tuple[int, ...]]
    stacks: Sequence[Any]

    def gradients(self, params: Params, state: Tree, batch: Tree, drop: Dropout) -> Trained:
        """Return loss and gradients of a batch."""
        ...


@dataclass(frozen=True)
class Optimiser:
    """How parameters are changed: ``"adam"`` or ``"sgd"``, after gradients are clipped."""

    kind: str
    clip: float
    weight_decay: float = 0.0


class Training(Trainer, Protocol):
    """A model's parameters and optimiser, as updates change them and checkpoints hold them."""

    def update(self, state: Tree, batch: Tree, at: tuple[int, int], rate: float) -> Any:
        """Train on a batch and return the loss and the new state.

        ``at`` is the run's seed and the number of the update, which decide all that is random.
        """
        ...

    def gradients(
        self,
        function: Callable[..., Trained],
        state: Tree,
        batch: Tree,
        at: tuple[int, int] | None = None,
    ) -> tuple[Arrays, Trained]:
        """Return the gradients that a method such as :meth:`Model.gradients` gives, and the rest.

        Nothing changes. Without ``at`` nothing is dropped.
        """
        ...

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what ``function(parameters, *arguments)`` gives, after a look at its status.

        The function is a method of the model without gradients, and returns value and status.
        """
        ...

    def set_parameters(self, arrays: Arrays) -> None:
        """Take parameters that :meth:`parameters` gave."""
        ...


def load(name: str) -> Any:
    """Return the module of a framework, which is imported now.

    It has what is declared here, and functions on arrays: ``lookup``, ``linear``, ``einsum``, ….
    """
    assert name in FRAMEWORKS
    return importlib.import_module(f".{name}_framework", __package__)
