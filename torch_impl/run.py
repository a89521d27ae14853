"""One sequence of a module by chunks: forward, and backward with the readout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from revrnn.errors import RevRNNError
from revrnn.saturation import Saturation, warn_of_saturation

from .autograd import initial_floats
from .bptt import Bptt
from .call_hooks import CallHooks
from .checks import check_heads
from .chunks import ChunkInputs, Cut
from .collect import Collector, leaves_of, now
from .distributed import check_not_sharded, check_not_wrapped
from .engines import choose
from .forks import wait_for_none
from .gradients import Gradients
from .losses import Tally
from .modules import Floats, RevRNNBase
from .own_settings import Own
from .quantise import quantise_parameters
from .readout import LinearCrossEntropy, reads_in_place
from .schedule import make_schedule
from .state import State, start_from
from .stream_checks import check_inputs, check_module
from .trees import lengths, tree_of


class Run:
    """One sequence of a module, its inputs made from the user's data chunk by chunk."""

    def __init__(
        self,
        module: RevRNNBase,
        inputs: Any,
        embed: Callable[[Any], Tensor] | None,
        hx: Floats,
        state: State | None,
        by_step: Mapping[str, Tensor | None],
        own: Own,
        *,
        back: bool,
        check: Callable[[int, int, torch.device], None] | None = None,
    ) -> None:
        """Check the arguments and read the parameters.

        Arguments are those of :func:`~revrnn.torch_impl.value_and_grad`, with ``mask`` and
        ``resets`` in ``by_step``. ``back`` says whether there will be a backward pass; ``check``
        checks the caller's other arguments, from steps, rows and device.
        """
        wait_for_none()
        check_not_wrapped(module=module, embed=embed)
        check_module(module)
        check_not_sharded("module", module, flat=False)
        self.module = module
        self.config = config = module.config
        self.device = device = next(module.parameters()).device
        inputs = check_inputs(inputs, embed, config.input_size, device)
        self.steps, self.rows = lengths(inputs)
        self.mask = by_step.get("mask")
        size, resets = (self.steps, self.rows), by_step.get("resets")
        schedule = make_schedule(config, *size, device, self.mask, resets, None)
        self.hx = hx
        floats = initial_floats(hx, state, config, self.rows, device)
        self.settings = own.settings(module, self.steps)
        self.engine = choose(config, device, self.settings)
        self.conversions = self.engine.conversions
        if check is not None:
            check(self.steps, self.rows, device)
        self.users_autocast = torch.is_autocast_enabled(device.type)
        dtype = torch.get_autocast_dtype(device.type)
        # No method of this object, which would keep it and the inputs alive in a cycle.
        self.autocast = partial(_autocast, device.type, dtype, self.users_autocast)
        given = state if state is not None else hx
        others = () if given is None else (given,)
        options = {name: value for name, value in by_step.items() if value is not None}
        self.hooks = CallHooks(module, others, options)
        self.into = Collector() if back else None
        users = self.hooks, self.autocast, self.into
        self.inputs = ChunkInputs(inputs, embed, config, device, self.conversions, *users)
        self.inputs.check_cuts(self.settings.chunk_size)
        if self.hooks.before:  # pre-hooks may compute parameters
            self.inputs.start(self.settings.chunk_size)
        # Random numbers are drawn in the same order as in a call of the module.
        (stack,) = module._stacks()
        self.tensors = module.stack_parameters(*stack)
        self.dtype = self.tensors["weight_ih_l0"].dtype
        gains = module.gains(self.rows, device)
        self.schedule = replace(schedule, gains=gains)
        names = ["hx"] if isinstance(hx, Tensor) else ["hx[0]", "hx[1]"]
        self.conversions.check_finite(**self.tensors, **dict(zip(names, floats, strict=False)))
        if state is not None:
            check_heads("state.heads", state.heads, config)
        self.start = start_from(floats, config, self.rows, device) if state is None else state

    def leaves(self) -> list[Tensor]:
        """Make the first chunk's input; return the leaves that its graph ends at."""
        x = self.inputs.start(self.settings.chunk_size)
        data, own = self.inputs.cut, {id(tensor) for tensor in self.tensors.values()}
        leaves = [leaf for leaf in leaves_of(x) if id(leaf) not in own]
        if isinstance(self.inputs.embed, nn.Embedding) and self.inputs.in_place:
            leaves = [w for w in (self.inputs.embed.weight,) if w.requires_grad]
        return [*leaves, *data.leaves()]

    def bptt(self) -> Bptt:
        """Return the pass over the sequence."""
        params = quantise_parameters(self.tensors, self.config, self.conversions.quantise)
        given = self.steps, self.start, self.schedule, self.settings, self.engine
        made = Bptt(self.config, params, *given)
        if self.into is not None:
            made.saturation.add_weights(params)
        return made

    def floats(self, h: Tensor) -> Tensor:
        """Return exact states as the module's outputs."""
        return self.conversions.dequantise(h, self.config.formats.state_bits).to(self.dtype)

    def saturation(self, bptt: Bptt) -> Saturation:
        """Return what saturated in a pass, with a warning above the documented share."""
        saturated = bptt.saturation.read()
        name = "inputs" if self.inputs.embed is None else "embed's results"
        warn_of_saturation(saturated, self.config, name)
        return saturated

    # --- forward and backward ----------------------------------------------------------------

    def train(
        self, targets: Any, readout: Any, mean: bool, scale: Tensor, through_hx: bool
    ) -> tuple[Tensor, Bptt, Floats, Callable[[], None]]:
        """Run forward, and backward with the readout.

        Returns:
            The loss, the pass, the gradient of ``hx``, and what hands the collected gradients on.
        """
        assert self.into is not None
        tally, cut = self._tally(readout, mean, targets), Cut(tree_of(targets, self.steps))
        with torch.no_grad():
            bptt = self.bptt()
            bptt.forward(self.inputs.forwards)
            self.inputs.check(bptt.saturation.none_of_inputs)
        back = _Back(self, tally, cut, scale)
        grads = self.gradients(bptt, (None, None), back.outputs, back.inputs)
        tally.check()
        if not back.short:
            tally.check_used()
        for name, tensor in self.tensors.items():
            if tensor.requires_grad:
                self.into.add(tensor, grads.params[name].to(tensor.dtype))
        for one in (cut, self.inputs.cut):
            one.hand_on(self.into)
        factor, floats = tally.factor(), self._hx()
        of_hx = [g for g in (grads.h, grads.c) if g is not None][: len(floats)]
        if factor is not None:
            of_hx = [g * factor for g in of_hx]
        of_hx = [g.to(h.dtype) for g, h in zip(of_hx, floats, strict=True)]
        on_graph = any(h.grad_fn is not None for h in floats)
        if through_hx:
            for h, g in zip(floats, (grads.h, grads.c), strict=False):
                if h.requires_grad and g is not None:
                    self.into.add(h, g.to(h.dtype))
        # The caller may differentiate the same graph again, from the gradient of ``hx``.
        hand_on = partial(self.into.hand_on, factor, on_graph and not through_hx)
        returned: Any = tuple(of_hx)
        if self.hx is None or isinstance(self.hx, Tensor):
            returned = of_hx[0] if of_hx else None
        return tally.loss(), bptt, returned, hand_on

    def gradients(
        self,
        bptt: Bptt,
        of_state: tuple[Tensor | None, Tensor | None],
        of_outputs: Callable[[int, Tensor], Tensor | None],
        of_inputs: Callable[[int, Tensor], None],
    ) -> Gradients:
        """Run backward, and check that inputs were the same as forward."""
        inputs = self.inputs
        # Under autocast products of gradients would be rounded to fewer bits.
        with torch.no_grad(), self.autocast(users=False):
            try:
                grads = bptt.backward(
                    inputs.again, inputs.backwards, of_state, of_outputs, of_inputs
                )
            except RevRNNError as error:
                if error.argument not in ("readout", "embed", "use_reentrant"):
                    inputs.check_repeated(error)
                raise
            inputs.check_repeated()
        return grads

    def _tally(self, readout: Any, mean: bool, targets: Any) -> Tally:
        positions, size = self.steps * self.rows, self.settings.chunk_size
        tally = Tally(readout, mean, positions, self.steps, size)
        if isinstance(readout, LinearCrossEntropy) and mean and readout.reduction == "mean":
            tally.reference = readout.count(targets)
        return tally

    def in_place(self, readout: Any, targets: Any) -> bool:
        """Say whether the readout's own short cut is taken."""
        plain = not (self.users_autocast or self.hooks.after)
        return plain and reads_in_place(readout, targets)

    def _hx(self) -> list[Tensor]:
        if self.hx is None:
            return []
        return [self.hx] if isinstance(self.hx, Tensor) else list(self.hx)

    # --- forward only ------------------------------------------------------------------------

    def measure(self, targets: Any, readout: Any, mean: bool) -> tuple[Tensor, Bptt]:
        """Run forward with the readout; return loss and pass."""
        tally, cut = self._tally(readout, mean, targets), Cut(tree_of(targets, self.steps))
        bptt = self.bptt()
        short = self.in_place(readout, targets)

        def outputs(first: int, h: Tensor) -> None:
            part, floats = cut.part(first, first + len(h)), self.floats(h)
            if short:
                averaged = mean and readout.reduction == "mean"
                total, count, _ = readout.sum_and_grad(floats, part, None, Collector())
                tally.add_counted(total, count if averaged else None)
                return
            if self.hooks.after:
                floats = self.hooks.outputs(self.inputs.made.pop(first), floats)
            with self.autocast():
                tally.read(floats, part)

        bptt.forward(self.inputs.forwards, outputs, keep=False)
        self.inputs.check()
        tally.check()
        return tally.loss(), bptt


class _Back:
    """The callbacks of the backward pass, chunk by chunk."""

    def __init__(self, run: Run, tally: Tally, cut: Cut, scale: Tensor) -> None:
        assert run.into is not None
        self.run, self.tally, self.cut, self.scale = run, tally, cut, scale
        self.into: Collector = run.into
        self.short = run.in_place(tally.readout, cut.data)
        self._beside: dict[int, Tensor | None] = {}

    def outputs(self, first: int, h: Tensor) -> Tensor | None:
        """Read a chunk's outputs; return their gradient."""
        run, tally, stop = self.run, self.tally, first + len(h)
        outputs = run.floats(h)
        if self.short:
            return self._short(outputs, self.cut.part(first, stop))
        since, part = now(), self.cut.part(first, stop, grad=True)
        outputs.requires_grad_()
        seen: Tensor | None = None
        with torch.enable_grad():
            given = outputs.clone()  # hooks and readout may change it in place
            if run.hooks.after:
                seen = run.inputs.made[first].detach()
                seen.requires_grad_(run.inputs.made[first].requires_grad)
                given = run.hooks.outputs(seen, given)
            with run.autocast():
                loss = tally.read(given, part)
            loss = loss * self.scale.to(loss.device, loss.dtype)
        if loss.requires_grad:
            self.into.backward([loss], [torch.ones_like(loss)], since)
        self.cut.collect(first, self.into)
        if seen is not None:
            self._beside[first] = self.into.take(seen)
        gradient = self.into.take(outputs)
        return None if gradient is None else gradient.float()

    def _short(self, outputs: Tensor, part: Tensor) -> Tensor | None:
        tally, readout = self.tally, self.tally.readout
        averaged = readout.reduction == "mean" and tally.mean
        tally.kind = "count" if averaged else "sum"
        scale = self.scale * tally.share
        total, count, gradient = readout.sum_and_grad(outputs, part, scale, self.into)
        tally.add_counted(total, count if averaged else None)
        return None if gradient is None else gradient.float()

    def inputs(self, first: int, dx: Tensor) -> None:
        """Carry a chunk's gradient on."""
        self.run.inputs.backward(first, dx, self._beside.pop(first, None))


def _autocast(kind: str, dtype: torch.dtype, enabled: bool, users: bool = True) -> torch.autocast:
    """Return the caller's autocast for the caller's functions, or none for the stack.

    Without its cache, since a cached weight would belong to the graph of one chunk.
    """
    return torch.autocast(kind, dtype=dtype, enabled=users and enabled, cache_enabled=False)
