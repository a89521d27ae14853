"""A reversible stack as a differentiable function: forward, and gradients by reversal (GRAD).

Everything that looks at numbers is inside :class:`RevRNNFunction`, so that ``torch.func`` can peel
off its wrappers first: ``grad``, ``vjp``, ``vmap`` and ``vmap`` of ``grad`` see ordinary tensors
here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from revrnn.config import Config
from revrnn.errors import RevRNNError

from .bptt import Bptt, Settings
from .gradients import Gradients
from .quantise import check_finite, dequantise, operand_passes, quantise, quantise_parameters
from .schedule import Gains, make_schedule
from .state import State, initial_state
from .transforms import is_abstract, refuse_second_derivative, transformed

Named = dict[str, Tensor]


class Call:
    """One call: what it computes with besides tensors, and what its way back needs.

    Attributes:
        keys: names of the function's tensors, in order: ``x``, the parameters, ``hx[0]``,
            ``hx[1]``, ``mask``, ``resets``, ``gains``, ``state.h``, ``state.c``, ``state.heads``;
            what was not given is not there.
        results: names of what the function returns, known after it ran.
        bptt: the pass, after it ran.
        children: the calls of which this is a ``vmap``, or ``None``.
        used: whether it went back.
    """

    def __init__(
        self,
        config: Config,
        settings: Settings,
        gains: Gains | None,
        keys: list[str],
        words: Mapping[str, str],
        *,
        differentiable: bool,
        with_outputs: bool,
    ) -> None:
        """Take what is no tensor.

        Args:
            config: the stack.
            settings: how the sequence is gone through.
            gains: gains between layers as a function, if they are no tensor.
            keys: see above.
            words: how the caller calls them, where otherwise.
            differentiable: whether there may be a way back.
            with_outputs: whether outputs are wanted.
        """
        self.config, self.settings, self.gains = config, settings, gains
        self.keys, self.words = keys, words
        self.differentiable, self.with_outputs = differentiable, with_outputs
        self.results: list[str] = []
        self.children: list[Call] | None = None
        self.bptt: Bptt | None = None
        self.used = False

    def fresh(self) -> Call:
        """Return a call of the same kind."""
        return Call(
            self.config,
            self.settings,
            self.gains,
            self.keys,
            self.words,
            differentiable=self.differentiable,
            with_outputs=self.with_outputs,
        )

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
        if is_abstract(given.values()):
            return self._shapes(x)
        floats = {self.words.get(name, name): given[name] for name in self.differentiated}
        check_finite(**floats)
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
                outputs[first : first + len(h)] = dequantise(h, bits)
            if depth:
                slices[first + 1 : first + 1 + len(h)] = h[:, :, :depth]

        params = quantise_parameters({name: given[name] for name in config.parameter_shapes()}, config)
        self.bptt = Bptt(config, params, steps, start, schedule, self.settings)
        taker = deliver if self.with_outputs or depth else None
        end = self.bptt.forward(self._inputs(x), taker, self.differentiable)
        made = {"outputs": outputs, "h_n": dequantise(end.h, bits)}
        if end.c is not None:
            made["c_n"] = dequantise(end.c, bits)
        if depth:
            made |= {"context": dequantise(slices[1:], bits), "slices": slices}
        return made | {f"state.{name}": value for name, value in end.tensors().items()}

    def _inputs(self, x: Tensor) -> Callable[[int, int], Tensor]:
        return lambda first, stop: quantise("operand", x[first:stop], self.config.formats)

    def _start(self, given: Named) -> State:
        """Return the exact state to start from (SEQ-006)."""
        config, x = self.config, given["x"]
        if "state.h" in given:
            c, heads = given.get("state.c"), given.get("state.heads")
            return State(given["state.h"], c, heads, config)
        fresh = initial_state(config, x.shape[1], x.device)
        if "hx[0]" not in given:
            return fresh
        exact = [quantise("state", given[n].detach(), config.formats) for n in self._initial()]
        return State(exact[0], exact[1] if config.has_cell_state else None, fresh.heads, config)

    def _initial(self) -> list[str]:
        return [key for key in self.keys if key.startswith("hx")]

    def _shapes(self, x: Tensor) -> Named:
        """Return tensors of the right shapes and types, for meta and fake tensors."""
        config, (steps, rows, _) = self.config, x.shape
        wanted, depth = steps if self.with_outputs else 0, config.slice_size
        state = initial_state(config, rows, x.device)
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
        if self.used:
            raise RevRNNError(
                "E_UNSUPPORTED", "retain_graph", "a second backward pass", "one backward pass"
            )
        if is_abstract(given.values()):
            found = {name: torch.empty_like(value) for name, value in given.items()}
            like = given["x"].new_empty(())
            for name in self._initial():
                shape = (self.config.num_layers, given["x"].shape[1], self.config.hidden_size)
                found[name] = like.new_empty(shape)
            return [found[name] for name in self.differentiated]
        self.used = True
        x = given["x"]
        grad_x = torch.empty_like(x) if wants_x else None
        # A backward pass under autocast would round its products to fewer bits.
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            made = self._gradients(x, grads, grad_x)
        # GRAD-003, GRAD-004
        by_name: dict[str, Any] = {"x": grad_x, "hx[0]": made.h, "hx[1]": made.c}
        by_name |= {name: made.params[name].to(given[name].dtype) for name in made.params}
        return [by_name[name] for name in self.differentiated]

    def _gradients(
        self, x: Tensor, grads: Mapping[str, Tensor | None], grad_x: Tensor | None
    ) -> Gradients:
        """Go back, writing the gradient of the input into ``grad_x``."""
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

        def of_inputs(first: int, dx: Tensor) -> None:
            if grad_x is not None:
                steps = slice(first, first + len(dx))
                grad_x[steps] = dx * operand_passes(x[steps], formats)  # GRAD-002

        inputs = self._inputs(x)
        final = (grads.get("h_n"), grads.get("c_n"))
        return self.bptt.backward(inputs, inputs, final, of_outputs, of_inputs)


def _sliced(tensors: tuple[Any, ...], dims: tuple[Any, ...], index: int) -> list[Any]:
    """Return one entry of what ``vmap`` maps over."""
    return [
        value if dim is None or not isinstance(value, Tensor) else value.select(dim, index)
        for value, dim in zip(tensors, dims, strict=True)
    ]


def _stacked(results: list[tuple[Any, ...]]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return results of all entries, and along which axis."""
    columns = list(zip(*results, strict=True))
    stacked = tuple(None if c[0] is None else torch.stack(c) for c in columns)
    return stacked, tuple(None if c is None else 0 for c in stacked)


class RevRNNFunction(torch.autograd.Function):
    """Quantised inputs forward, gradients by reversal backward."""

    @staticmethod
    def forward(call: Call, *tensors: Tensor) -> Any:
        """Return what :meth:`Call.run` does, as a tuple."""
        made = call.run(dict(zip(call.keys, tensors, strict=True)))
        call.results = list(made)
        return tuple(made.values())

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep the call, and the inputs that gradients are computed with."""
        call, *tensors = inputs
        ctx.call = call
        ctx.set_materialize_grads(False)
        # Saved, so that a change in place is noticed.
        kept = [t for key, t in zip(call.keys, tensors, strict=True) if _is_kept(key)]
        ctx.save_for_backward(*kept)
        ctx.mark_non_differentiable(*(t for t in output if not t.is_floating_point()))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        """Return the gradients of all inputs of ``forward``."""
        call, saved = ctx.call, ctx.saved_tensors
        functional = transformed()
        if torch.is_grad_enabled() and not functional:
            refuse_second_derivative()  # GRAD-022
        wants_x = ctx.needs_input_grad[1]
        if functional:
            found = _Backward.apply(call, wants_x, len(saved), *saved, *gradients)
        else:
            found = _back(call, wants_x, len(saved), *saved, *gradients)
        by_name = dict(zip(call.differentiated, found, strict=True))
        return None, *(
            by_name.get(key) if need else None
            for key, need in zip(call.keys, ctx.needs_input_grad[1:], strict=True)
        )

    @staticmethod
    def vmap(info: Any, in_dims: Any, call: Call, *tensors: Any) -> Any:
        """Run the entries one after another."""
        call.children = [call.fresh() for _ in range(info.batch_size)]
        results = [
            RevRNNFunction.apply(child, *_sliced(tensors, in_dims[1:], index))
            for index, child in enumerate(call.children)
        ]
        call.results = call.children[0].results
        return _stacked(results)

    @staticmethod
    def jvp(ctx: Any, *_: Any) -> Any:
        """Refuse."""
        allowed = "backward passes (grad, vjp)"
        raise RevRNNError("E_UNSUPPORTED", "jvp", "forward-mode differentiation", allowed)


def _is_kept(key: str) -> bool:
    return key == "x" or key.startswith(("weight", "bias"))


def _back(call: Call, wants_x: bool, count: int, *tensors: Any) -> tuple[Any, ...]:
    kept = [key for key in call.keys if _is_kept(key)]
    given = dict(zip(kept, tensors[:count], strict=True))
    grads = dict(zip(call.results, tensors[count:], strict=True))
    return tuple(call.back(given, grads, wants_x))


class _Backward(torch.autograd.Function):
    """The backward pass under ``torch.func``, which differentiates and maps that as well."""

    @staticmethod
    def forward(call: Call, wants_x: bool, count: int, *tensors: Any) -> Any:
        return _back(call, wants_x, count, *tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep nothing."""

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        refuse_second_derivative()

    @staticmethod
    def vmap(info: Any, in_dims: Any, call: Call, wants_x: bool, count: int, *tensors: Any) -> Any:
        if call.children is None:
            given = "over the backward pass alone (jacrev, is_grads_batched)"
            raise RevRNNError("E_UNSUPPORTED", "vmap", given, "over the function: vmap(grad(f))")
        results = [
            _Backward.apply(child, wants_x, count, *_sliced(tensors, in_dims[3:], index))
            for index, child in enumerate(call.children)
        ]
        return _stacked(results)

    @staticmethod
    def jvp(ctx: Any, *_: Any) -> Any:
        refuse_second_derivative()
