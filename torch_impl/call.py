"""One call of a reversible stack: the forward pass, and what its backward pass needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from revrnn.config import Config
from revrnn.errors import RevRNNError
from revrnn.saturation import Saturation, warn_of_saturation

from .bptt import Bptt
from .checks import check_heads
from .engine import Settings
from .engines import choose
from .forks import wait_for_none
from .gradients import Gradients
from .quantise import operand_passes, quantise_parameters
from .schedule import Gains, make_schedule
from .state import State, fresh_state, start_from
from .transforms import is_abstract

Named = dict[str, Tensor]


@dataclass(eq=False)
class Call:
    """One call: its settings, and what its backward pass needs.

    Attributes:
        config: the stack.
        settings: how the sequence is processed.
        gains: gains between layers as a function, if they are no tensor.
        keys: names of the function's tensors, in order: ``x``, the parameters, ``hx[0]``,
            ``hx[1]``, ``mask``, ``resets``, ``gains``, ``state.h``, ``state.c``, ``state.heads``;
            what was not given is not there.
        words: the caller's own names of the tensors, where they differ.
        differentiable: whether there may be a backward pass.
        with_outputs: whether outputs are wanted.
        results: names of what the function returns, known after it ran.
        bptt: the pass, after it ran.
        saturation: what saturated in it, after it ran; ``None`` where nothing is computed.
        abstract: whether its results have shapes but no numbers, known after it ran.
        children: the calls of which this is a ``vmap``, or ``None``.
    """

    config: Config
    settings: Settings
    gains: Gains | None
    keys: list[str]
    words: Mapping[str, str]
    differentiable: bool
    with_outputs: bool
    results: list[str] = field(default_factory=list, init=False)
    bptt: Bptt | None = field(default=None, init=False)
    saturation: Saturation | None = field(default=None, init=False)
    abstract: bool = field(default=False, init=False)
    children: list[Call] | None = field(default=None, init=False)

    @property
    def wraps(self) -> int:
        """How often a state wrapped (MUL-006)."""
        if self.children is not None:
            return sum(child.wraps for child in self.children)
        return 0 if self.bptt is None else self.bptt.wraps

    @property
    def differentiated(self) -> list[str]:
        """Names of the tensors that get a gradient."""
        return [key for key in self.keys if key == "x" or key.startswith(("weight", "bias", "hx"))]

    # --- forward -----------------------------------------------------------------------------

    def run(self, given: Named) -> Named:
        """Compute outputs, context and final state, float and exact."""
        config, x = self.config, given["x"]
        self.abstract = is_abstract(given.values()) or not x.shape[1]  # of no rows only shapes
        if self.abstract:
            return self._shapes(x)
        engine = choose(config, x.device, self.settings)
        by = engine.conversions
        floats = {self.words.get(name, name): given[name] for name in self.differentiated}
        by.check_finite(**floats)
        steps, rows, _ = x.shape
        depth, bits = config.slice_size, config.formats.state_bits
        wanted = steps if self.with_outputs else 0
        outputs = x.new_empty((wanted, rows, config.hidden_size), dtype=torch.float32)
        slices = x.new_empty((steps + 1 if depth else 0, rows, depth), dtype=torch.int32)
        gains = given.get("gains", self.gains)
        mask, resets = given.get("mask"), given.get("resets")
        schedule = make_schedule(config, steps, rows, x.device, mask, resets, gains)
        start = self._start(given)
        if depth:
            slices[0] = start.h[-1][:, :depth]

        def deliver(first: int, h: Tensor) -> None:
            if self.with_outputs:
                by.dequantise(h, bits, outputs[first : first + len(h)])
            if depth:
                slices[first + 1 : first + 1 + len(h)] = h[:, :, :depth]

        weights = {name: given[name] for name in config.parameter_shapes()}
        params = quantise_parameters(weights, config, by.quantise)
        own = config, params, steps, start, schedule, self.settings, engine
        self.bptt = Bptt(*own, whole=True)
        if self.differentiable:
            self.bptt.saturation.add_weights(params)
        taker = deliver if self.with_outputs or depth else None
        place = by.place_in(outputs) if self.with_outputs else None
        end = self.bptt.forward(self._inputs(self.bptt, x), taker, self.differentiable, place)
        self.saturation = self.bptt.saturation.read()
        warn_of_saturation(self.saturation, config, self.words.get("x", "x"))
        made = {"outputs": outputs, "h_n": by.dequantise(end.h, bits)}
        if end.c is not None:
            made["c_n"] = by.dequantise(end.c, bits)
        if depth:
            made |= {"context": by.dequantise(slices[1:], bits), "slices": slices}
        for name, value in end.tensors().items():
            # The caller may change it in place before a second backward pass compares with it.
            made[f"state.{name}"] = value.clone() if self.differentiable else value
        return made

    def _inputs(self, bptt: Bptt, x: Tensor) -> Callable[[int, int], Tensor]:
        quantise, formats = bptt.engine.conversions.quantise, self.config.formats
        return lambda first, stop: quantise("operand", x[first:stop], formats)

    def _start(self, given: Named) -> State:
        """Return the exact state to start from (SEQ-006)."""
        config, x = self.config, given["x"]
        if "state.h" in given:
            c, heads = given.get("state.c"), given.get("state.heads")
            check_heads(self.words.get("state.heads", "state.heads"), heads, config)
            return State(given["state.h"], c, heads, config)
        floats = [given[name] for name in self._initial()]
        return start_from(floats, config, x.shape[1], x.device)

    def _initial(self) -> list[str]:
        return [key for key in self.keys if key.startswith("hx")]

    def _shapes(self, x: Tensor) -> Named:
        """Return tensors of the right shapes and types, for meta and fake tensors."""
        config, (steps, rows, _) = self.config, x.shape
        wanted, depth = steps if self.with_outputs else 0, config.slice_size
        state = fresh_state(config, rows, x.device)
        made = {"outputs": x.new_empty((wanted, rows, config.hidden_size), dtype=torch.float32)}
        names = ["h_n"] + ["c_n"] * config.has_cell_state
        made |= {name: torch.empty_like(state.h, dtype=torch.float32) for name in names}
        if depth:
            made["context"] = x.new_empty((steps, rows, depth), dtype=torch.float32)
            made["slices"] = x.new_empty((steps + 1, rows, depth), dtype=torch.int32)
        return made | {f"state.{name}": value for name, value in state.tensors().items()}

    # --- backward ----------------------------------------------------------------------------

    def back(self, given: Named, grads: dict[str, Tensor | None], wants_x: bool) -> list[Any]:
        """Return the gradients of :attr:`differentiated`; for ``x`` ``None`` if not wanted."""
        if self.abstract:
            shaped = {name: torch.zeros_like(value) for name, value in given.items()}
            like = given["x"].new_empty(())
            for name in self._initial():
                shape = (self.config.num_layers, given["x"].shape[1], self.config.hidden_size)
                shaped[name] = like.new_empty(shape)
            return [shaped[name] for name in self.differentiated]
        wait_for_none()
        x = given["x"]
        grad_x = torch.empty_like(x, dtype=torch.float32) if wants_x else None
        # A backward pass under autocast would round its products to fewer bits.
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            try:
                made = self._gradients(x, grads, grad_x)
            except RevRNNError as error:
                raise self._of_input(error) from error
        # GRAD-003, GRAD-004
        of_x = None if grad_x is None else grad_x.to(x.dtype)
        by_name: dict[str, Any] = {"x": of_x, "hx[0]": made.h, "hx[1]": made.c}
        by_name |= {name: made.params[name].to(given[name].dtype) for name in made.params}
        return [by_name[name] for name in self.differentiated]

    def _of_input(self, error: RevRNNError) -> RevRNNError:
        """Return an error of the way back, with what may be its cause beside autograd's checks."""
        if error.code not in ("E_REVERSAL", "E_UNDERFLOW"):
            return error
        as_it_was = f"with {self.words.get('x', 'x')} as it was in the forward pass"
        writes = "not written to through .data, nor changed by saved_tensors_hooks"
        allowed = f"{error.allowed}, {as_it_was}: {writes}"
        return RevRNNError(error.code, error.argument, error.given, allowed)

    def _gradients(
        self, x: Tensor, grads: Mapping[str, Tensor | None], grad_x: Tensor | None
    ) -> Gradients:
        """Run backward, writing the gradient of the input into ``grad_x``."""
        assert self.bptt is not None
        formats, depth = self.config.formats, self.config.slice_size
        grad_outputs = grads.get("outputs") if self.with_outputs else None
        grad_context = grads.get("context")

        def of_outputs(first: int, h: Tensor) -> Tensor | None:
            steps = slice(first, first + len(h))
            part = None if grad_outputs is None else grad_outputs[steps].float()
            if grad_context is None:
                return part
            part = h.new_zeros(h.shape, dtype=torch.float32) if part is None else part.clone()
            part[:, :, :depth] += grad_context[steps]
            return part

        none_saturated = self.bptt.saturation.none_of_inputs

        def of_inputs(first: int, dx: Tensor) -> None:
            if not none_saturated:
                dx.mul_(operand_passes(x[first : first + len(dx)], formats))  # GRAD-002

        inputs = self._inputs(self.bptt, x)
        final = (grads.get("h_n"), grads.get("c_n"))
        of_input = None if grad_x is None else of_inputs
        given = inputs, inputs, final, of_outputs, of_input
        return self.bptt.backward(*given, all_of_inputs=grad_x)
