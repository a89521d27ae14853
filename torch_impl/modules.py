"""``RevGRU`` and ``RevLSTM``: modules with the constructor and call of ``nn.GRU``, ``nn.LSTM``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from revrnn.config import Config
from revrnn.dropout_warnings import warn_of_one_layer
from revrnn.errors import RevRNNError, shown
from revrnn.formats import Formats
from revrnn.kinds import is_int

from .autograd import Output, run
from .call_hooks import runs_pre_hooks
from .checks import check_settings, flag
from .directions import backwards, dropped, given_backwards
from .doors import Given, take
from .dropout import GainsOfDropout
from .layers import RevRNNLayers
from .modes import seen_whole
from .schedule import Gains
from .state import State, initial_state
from .transforms import NotRecorded, as_leaf, is_abstract, mapped, not_compiled

Floats = Tensor | tuple[Tensor, Tensor] | None


class RevRNNBase(NotRecorded, RevRNNLayers):
    """What :class:`RevGRU` and :class:`RevLSTM` share."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        *,
        max_forget_bits: int | None = 3,
        forgetting: bool = True,
        buffer: str = "stream",
        slice_size: int = 0,
        z_max: int | None = None,
        p_max: int | None = None,
        formats: Formats | None = None,
        weight_drop: float = 0.0,
        locked_dropout: bool = False,
        chunk_size: int | None = None,
        checkpoint_every: int | None = None,
        offload: bool = False,
    ) -> None:
        """Make the parameters, uniform in ±1/√hidden_size (see :meth:`reset_parameters`).

        Args:
            input_size: features of the input.
            hidden_size: units of a layer, an even number: two groups of half as many.
            num_layers: layers of the stack.
            bias: whether there are biases.
            batch_first: whether input and output are ``(batch, seq, feature)``.
            dropout: probability of dropping outputs of all layers but the last, 0 … 0.9375 or 1.
            bidirectional: whether a second stack runs from the last step to the first.
            proj_size: must be 0.
            device: of the parameters.
            dtype: of the parameters, a float type; the exact part does not depend on it.
            max_forget_bits: how many bits a unit may forget in one multiplication, 1 … 10, or
                ``None`` for no limit (ACT-004, ACT-005). It bounds the buffer.
            forgetting: without it nothing is forgotten and nothing stored (CELL-030, CELL-031).
            buffer: ``"stream"`` or ``"wordlist"``.
            slice_size: units whose values are kept for attention (SEQ-007).
            z_max: largest forget gate in 1024ths (FMT-005).
            p_max: largest gate ``p`` of RevLSTM in 1024ths (FMT-007).
            formats: number formats (FMT-002).
            weight_drop: probability of dropping recurrent weights, once a call.
            locked_dropout: whether ``dropout`` drops the same units in all steps.
            chunk_size: steps handled together, by default 16 or nearly so many.
            checkpoint_every: see :func:`revrnn.torch_impl.rev_rnn`.
            offload: keep the buffer in the host's memory.

        Raises:
            RevRNNError: for a bad argument, by its name.
        """
        super().__init__()
        if not is_int(proj_size) or proj_size != 0:
            raise RevRNNError("E_UNSUPPORTED", "proj_size", shown(proj_size), "0")
        self.bias = flag("bias", bias)
        self.bidirectional = flag("bidirectional", bidirectional)
        self.batch_first, self.locked_dropout = batch_first, locked_dropout
        self.dropout, self.weight_drop = dropout, weight_drop
        self.chunk_size, self.checkpoint_every = chunk_size, checkpoint_every
        self.offload = offload
        self.config = Config(
            self.cell,
            input_size,
            hidden_size,
            num_layers,
            max_forget_bits,
            forgetting,
            buffer,
            slice_size,
            z_max,
            Formats() if formats is None else formats,
            p_max,
        )
        warn_of_one_layer(self.dropout, self.num_layers)
        self._make_parameters(device, dtype)

    def initial_state(self, batch_size: int) -> State:
        """Return a fresh exact state, to be given as ``hx`` (SEQ-006)."""
        self._one_direction("initial_state")
        return initial_state(self.config, batch_size, self.weight_ih_l0.device)

    def gains(self, rows: int, device: torch.device) -> Gains | None:
        """Return fresh gains for dropout between layers, or ``None`` where nothing is dropped."""
        if not (self.training and self.dropout and self.num_layers > 1):
            return None
        if mapped():
            allowed = "dropout=0, or evaluation, under torch.vmap"
            raise RevRNNError("E_UNSUPPORTED", "dropout", self.dropout, allowed)
        shape = (self.num_layers - 1, rows, self.hidden_size)
        return GainsOfDropout(self.dropout, shape, device, self.locked_dropout)

    @not_compiled
    @seen_whole
    def forward(
        self,
        input: Tensor | PackedSequence,  # noqa: A002 - its name in nn.GRU
        hx: Tensor | tuple[Tensor, Tensor] | State | None = None,
        *,
        mask: Tensor | None = None,
        resets: Tensor | None = None,
    ) -> tuple[Tensor | PackedSequence, Any]:
        """Run over a sequence, as ``nn.GRU`` and ``nn.LSTM`` do.

        Args:
            input: ``(seq, batch, input_size)``, ``(batch, seq, input_size)`` with ``batch_first``,
                ``(seq, input_size)``, or a ``PackedSequence``; of any float type.
            hx: the initial ``h`` ``(layers · directions, batch, hidden_size)``, for RevLSTM ``(h,
                c)``; or the exact state that another call returned, or :meth:`initial_state`.
            mask: bool, of the input's shape without features: which steps a row has (SEQ-002).
            resets: bool of the same shape: where a row starts anew from zero (SEQ-013), in both
                directions: the parts of a row are as if alone.

        Returns:
            The outputs, of the kind of the input; and the final ``h``, for RevLSTM ``(h, c)``, or,
            if ``hx`` was an exact state, the exact state. Floats are of the parameters' type.

        Raises:
            RevRNNError: for bad input, by the argument's name.
        """
        leaf = as_leaf(self, (input, hx), {"mask": mask, "resets": resets})
        if leaf is not None:
            return leaf  # type: ignore[no-any-return]
        given = take(self, "input", input, hx, mask, resets)
        if self.bidirectional:
            outputs, last = self._both_ways(given)
        else:
            out = self._call("input", given, with_outputs=True)
            outputs = self._cast(out.outputs)
            last = self._final([out]) if given.state is None else out.state
        if isinstance(input, PackedSequence):
            return _packed_again(input, outputs, given, last)
        if not given.batched:
            outputs = outputs.squeeze(1)
            last = _each(last, lambda value: value.squeeze(1))
        elif self.batch_first:
            outputs = outputs.transpose(0, 1)
        return outputs, last

    @not_compiled
    @seen_whole
    @runs_pre_hooks
    def encode(self, x: Tensor, hx: Floats | State = None, *, mask: Tensor | None = None) -> Output:
        """Run over a sequence and give the slices for attention, but no outputs (SEQ-007).

        Forward pre-hooks run as in a call, forward hooks do not.

        Args:
            x: the input, as in :meth:`forward`, not packed.
            hx: as there.
            mask: as there.

        Returns:
            What :func:`rev_rnn` returns, without ``outputs``: ``context`` is float ``(seq, batch,
            slice_size)``, differentiable, also with ``batch_first``.
        """
        self._one_direction("encode")
        if not self.config.slice_size:
            raise RevRNNError("E_ARGUMENT", "slice_size", 0, "at least 1, to encode")
        if isinstance(x, PackedSequence):
            raise RevRNNError("E_UNSUPPORTED", "x", "a PackedSequence", "a tensor, with a mask")
        return self._call("x", take(self, "x", x, hx, mask), with_outputs=False)

    def _call(self, name: str, given: Given, *, with_outputs: bool) -> Output:
        (stack,) = self._stacks()
        return self._run(stack, name, given, drops=True, with_outputs=with_outputs)

    def _run(
        self,
        stack: tuple[Config, list[int], str],
        name: str,
        given: Given,
        *,
        drops: bool = False,
        with_outputs: bool = True,
        weights: dict[str, Tensor] | None = None,
    ) -> Output:
        params = self.stack_parameters(*stack, weights)  # draws its random numbers before the gains
        x, own = given.x, (self.chunk_size, self.checkpoint_every, self.offload)
        words = {"x": name, "state.heads": "hx.heads"} | self._own_names(*stack)
        if not self.config.has_cell_state:
            words["hx[0]"] = "hx"
        settings = check_settings(len(x), "reversed", *own)
        return run(
            x,
            params,
            stack[0],
            settings,
            hx=given.hx,
            state=given.state,
            mask=given.mask,
            resets=given.resets,
            gains=self.gains(x.shape[1], x.device) if drops and not is_abstract([x]) else None,
            with_outputs=with_outputs,
            words=words,
        )

    def _both_ways(self, given: Given) -> tuple[Tensor, Any]:
        outs, weights = list[Output](), self.named_weights()  # parametrisations run once a call
        for number, stack in enumerate(self._stacks()):
            if number % 2 == 0 and number and self.dropout and self.training:
                given = replace(given, x=dropped(given.x, self.dropout, self.locked_dropout))
            reverse = stack[2] != ""
            own = given_backwards(given) if reverse else given
            hx = [value[number : number + 1] for value in given.hx]
            outs.append(self._run(stack, "input", replace(own, hx=hx), weights=weights))
            if reverse:
                both = outs[-2].outputs, backwards(outs[-1].outputs, given.lengths)
                given = replace(given, x=torch.cat(both, 2))
        return self._cast(given.x), self._final(outs)

    def _final(self, outs: list[Output]) -> Any:
        given: list[list[Any]] = [[out.h_n, out.c_n][: self.config.state_arrays] for out in outs]
        parts = zip(*given, strict=True)
        last = [self._cast(p[0] if len(p) == 1 else torch.cat(p)) for p in parts]
        return tuple(last) if self.config.has_cell_state else last[0]

    def _cast(self, value: Tensor) -> Tensor:
        return value.to(self.any_weight().dtype)

    def _one_direction(self, name: str) -> None:
        if self.bidirectional:
            raise RevRNNError("E_UNSUPPORTED", name, "bidirectional=True", "one direction")


def _each(last: Any, change: Any) -> Any:
    """Change the tensors of a float final state."""
    if isinstance(last, Tensor):
        return change(last)
    return tuple(change(value) for value in last) if isinstance(last, tuple) else last


def _packed_again(
    packed: PackedSequence, outputs: Tensor, given: Given, last: Any
) -> tuple[PackedSequence, Any]:
    """Return outputs and final states as a packed input has them."""
    assert given.lengths is not None
    order = packed.unsorted_indices
    if order is not None and isinstance(last, State):
        last = last.index_select(order)
    elif order is not None:
        last = _each(last, lambda value: value.index_select(1, order))
    data = pack_padded_sequence(outputs, given.lengths).data
    return PackedSequence(data, packed.batch_sizes, packed.sorted_indices, order), last


class RevGRU(RevRNNBase):
    """A reversible GRU (CELL-010 to 012), called as ``nn.GRU``.

    Training keeps a few bits per unit and step instead of states, and recovers states by reversal.
    See :class:`RevRNNBase` for the arguments.
    """

    cell = "revgru"


class RevLSTM(RevRNNBase):
    """A reversible LSTM (CELL-020 to 022), called as ``nn.LSTM``; see :class:`RevRNNBase`."""

    cell = "revlstm"
