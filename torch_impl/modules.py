"""``RevGRU`` and ``RevLSTM``: modules with the constructor and call of ``nn.GRU``, ``nn.LSTM``."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from revrnn.config import Config
from revrnn.errors import RevRNNError
from revrnn.formats import Formats

from .autograd import Gains, Output, rev_rnn
from .checks import check_settings
from .dropout import GainsOfDropout, check_gain_probability, check_probability
from .state import State, initial_state

Floats = Tensor | tuple[Tensor, Tensor] | None


class RevRNNBase(nn.Module):
    """What :class:`RevGRU` and :class:`RevLSTM` share."""

    cell: Literal["revgru", "revlstm"]
    # Parameters are made by name; those of layer 0 are always there.
    weight_ih_l0: Tensor

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
        device: torch.device | str | None = None,
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
        """Make the parameters, uniform in ±1/√hidden_size.

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
            chunk_size: steps handled together, by default 16.
            checkpoint_every: see :func:`revrnn.torch_impl.rev_rnn`.
            offload: keep the buffer in the host's memory.

        Raises:
            RevRNNError: for a bad argument, by its name.
        """
        super().__init__()
        if proj_size != 0:
            raise RevRNNError("E_UNSUPPORTED", "proj_size", repr(proj_size), "0")
        flags = {
            "bias": bias, "batch_first": batch_first, "bidirectional": bidirectional,
            "locked_dropout": locked_dropout,
        }  # fmt: skip
        for name, value in flags.items():
            if not isinstance(value, bool):
                raise RevRNNError("E_ARGUMENT", name, repr(value), "True, False")
        self.bias, self.batch_first, self.bidirectional = bias, batch_first, bidirectional
        self.locked_dropout = locked_dropout
        self.dropout = check_gain_probability(dropout)
        self.weight_drop = check_probability("weight_drop", weight_drop)
        check_settings("reversed", chunk_size, checkpoint_every, offload)
        self.chunk_size, self.checkpoint_every = chunk_size, checkpoint_every
        self.offload = offload
        self.config = Config(
            self.cell, input_size, hidden_size, num_layers, max_forget_bits, forgetting, buffer,
            slice_size, z_max, Formats() if formats is None else formats, p_max,
        )  # fmt: skip
        if forgetting and buffer not in ("stream", "wordlist"):
            raise RevRNNError("E_UNSUPPORTED", "buffer", repr(buffer), "'stream', 'wordlist'")
        if bidirectional and slice_size:
            raise RevRNNError("E_UNSUPPORTED", "slice_size", slice_size, "0 if bidirectional")
        for name, shape in self._all_shapes():
            setattr(self, name, nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))
        self.reset_parameters()

    # --- parameters --------------------------------------------------------------------------

    @property
    def input_size(self) -> int:
        """Features of the input."""
        return self.config.input_size

    @property
    def hidden_size(self) -> int:
        """Units of a layer."""
        return self.config.hidden_size

    @property
    def num_layers(self) -> int:
        """Layers of the stack."""
        return self.config.num_layers

    @property
    def max_forget_bits(self) -> int | None:
        """The limit of forgetting."""
        return self.config.max_forget_bits

    def _stacks(self) -> list[tuple[Config, list[int], str]]:
        """Return the exact stacks: configuration, which layers, suffix of the parameters.

        One direction is one stack. With two, layers see both directions of the layer below, so each
        layer and direction is a stack of its own.
        """
        config = self.config
        if not self.bidirectional:
            return [(config, list(range(config.num_layers)), "")]
        found = []
        for layer in range(config.num_layers):
            size = config.input_size if layer == 0 else 2 * config.hidden_size
            one = Config(
                config.cell, size, config.hidden_size, 1, config.max_forget_bits,
                config.forgetting, config.buffer, 0, config.z_max, config.formats, config.p_max,
            )  # fmt: skip
            found += [(one, [layer], suffix) for suffix in ("", "_reverse")]
        return found

    def _all_shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        found = []
        for config, layers, suffix in self._stacks():
            for name, shape in config.parameter_shapes().items():
                kind, own = name.rsplit("_l", 1)
                if self.bias or kind != "bias":
                    found.append((f"{kind}_l{layers[int(own)]}{suffix}", shape))
        return found

    def reset_parameters(self) -> None:
        """Draw all parameters anew, uniform in ±1/√hidden_size."""
        bound = self.hidden_size**-0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def flatten_parameters(self) -> None:
        """Do nothing: for code that calls this of ``nn.GRU``."""

    def stack_parameters(self, config: Config, layers: list[int], suffix: str) -> dict[str, Tensor]:
        """Return a stack's parameters by the names of :class:`~revrnn.Config`.

        Recurrent weights have been dropped from, if that is asked for and the module is training.
        """
        found: dict[str, Tensor] = {}
        for name, shape in config.parameter_shapes().items():
            kind, own = name.rsplit("_l", 1)
            if kind == "bias" and not self.bias:
                found[name] = self.weight_ih_l0.new_zeros(shape)
                continue
            value = getattr(self, f"{kind}_l{layers[int(own)]}{suffix}")
            if kind == "weight_hh" and self.weight_drop and self.training:
                value = nn.functional.dropout(value, self.weight_drop)
            found[name] = value
        return found

    def extra_repr(self) -> str:
        """Return what differs from the defaults."""
        config, defaults = self.config, Config(self.cell, 1, 2)
        found = [str(config.input_size), str(config.hidden_size)]
        found += [f"num_layers={config.num_layers}"] * (config.num_layers != 1)
        found.append(f"max_forget_bits={config.max_forget_bits}")
        for name in ("forgetting", "buffer", "slice_size", "z_max", "p_max", "formats"):
            value = getattr(config, name)
            if value != getattr(defaults, name):
                found.append(f"{name}={value!r}")
        plain = {
            "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False,
            "weight_drop": 0.0, "locked_dropout": False, "chunk_size": None,
            "checkpoint_every": None, "offload": False,
        }  # fmt: skip
        found += [f"{n}={getattr(self, n)!r}" for n, v in plain.items() if getattr(self, n) != v]
        return ", ".join(found)

    # --- calls -------------------------------------------------------------------------------

    def initial_state(self, batch_size: int) -> State:
        """Return a fresh exact state, to be given as ``hx`` (SEQ-006)."""
        self._one_direction("initial_state")
        return initial_state(self.config, batch_size, self.weight_ih_l0.device)

    def gains(self, rows: int, device: torch.device) -> Gains | None:
        """Return fresh gains for dropout between layers, or ``None`` where nothing is dropped."""
        if not (self.training and self.dropout and self.num_layers > 1):
            return None
        shape = (self.num_layers - 1, rows, self.hidden_size)
        return GainsOfDropout(self.dropout, shape, device, self.locked_dropout)

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
                ``(seq, input_size)``, or a ``PackedSequence``.
            hx: the initial ``h`` ``(layers · directions, batch, hidden_size)``, for RevLSTM ``(h,
                c)``; or the exact state that another call returned, or :meth:`initial_state`.
            mask: bool, shaped as the input without its features: which steps a row has (SEQ-002).
            resets: bool of the same shape: where a row starts anew from zero (SEQ-013).

        Returns:
            The outputs, of the kind of the input; and the final ``h``, for RevLSTM ``(h, c)``, or,
            if ``hx`` was an exact state, the exact state.

        Raises:
            RevRNNError: for bad input, by the argument's name.
        """
        if isinstance(input, PackedSequence):
            return self._packed(input, hx, mask, resets)
        x, by_step, batched = self._steps_first(input, {"mask": mask, "resets": resets})
        if not batched and hx is not None and not isinstance(hx, State):
            hx = hx.unsqueeze(1) if isinstance(hx, Tensor) else (hx[0][:, None], hx[1][:, None])
        outputs, last = self._run(x, hx, by_step["mask"], by_step["resets"], None)
        if not batched:
            outputs = outputs.squeeze(1)
            if isinstance(last, Tensor):
                last = last.squeeze(1)
            elif isinstance(last, tuple):
                last = (last[0].squeeze(1), last[1].squeeze(1))
        elif self.batch_first:
            outputs = outputs.transpose(0, 1)
        return outputs, last

    def encode(self, x: Tensor, hx: Floats | State = None, *, mask: Tensor | None = None) -> Output:
        """Run over a sequence and give the slices for attention, but no outputs (SEQ-007).

        Args:
            x: the input, as in :meth:`forward`, not packed.
            hx: as in :meth:`forward`.
            mask: as in :meth:`forward`.

        Returns:
            What :func:`rev_rnn` returns, without ``outputs``: ``context`` is float ``(seq, batch,
            slice_size)``, differentiable, also with ``batch_first``.
        """
        self._one_direction("encode")
        if not self.config.slice_size:
            raise RevRNNError("E_ARGUMENT", "slice_size", 0, "at least 1, to encode")
        x, by_step, _ = self._steps_first(x, {"mask": mask})
        return self._call(x, hx, by_step["mask"], None, with_outputs=False)

    def _steps_first(
        self, x: object, by_step: dict[str, Tensor | None]
    ) -> tuple[Tensor, dict[str, Tensor | None], bool]:
        """Return input ``[T, B, I]`` and masks ``[T, B]``, and whether there was a batch."""
        if not isinstance(x, Tensor):
            raise RevRNNError("E_DTYPE", "input", type(x).__name__, "a tensor")
        if x.dim() not in (2, 3):
            allowed = "(seq, batch, input_size) or (seq, input_size)"
            raise RevRNNError("E_SHAPE", "input", f"shape {list(x.shape)}", allowed)
        if x.dim() == 2:
            found = {n: None if m is None else m.unsqueeze(1) for n, m in by_step.items()}
            return x.unsqueeze(1), found, False
        if self.batch_first:
            found = {n: None if m is None else m.transpose(0, 1) for n, m in by_step.items()}
            return x.transpose(0, 1), found, True
        return x, by_step, True

    def _packed(
        self, packed: PackedSequence, hx: Any, mask: object, resets: object
    ) -> tuple[PackedSequence, Any]:
        for name, value in (("mask", mask), ("resets", resets)):
            if value is not None:
                raise RevRNNError("E_ARGUMENT", name, "given", "None with a PackedSequence")
        if isinstance(hx, State):
            raise RevRNNError("E_ARGUMENT", "hx", "a State", "floats with a PackedSequence")
        # In the order of lengths, which is that of the packed data.
        x, lengths = pad_packed_sequence(PackedSequence(packed.data, packed.batch_sizes))
        if packed.sorted_indices is not None:
            hx = _rows(hx, packed.sorted_indices)
        mask = torch.arange(len(x))[:, None] < lengths
        outputs, last = self._run(x, hx, mask.to(x.device), None, lengths)
        if packed.unsorted_indices is not None:
            last = _rows(last, packed.unsorted_indices)
        data = pack_padded_sequence(outputs, lengths)
        found = PackedSequence(
            data.data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices
        )
        return found, last

    def _run(
        self,
        x: Tensor,
        hx: Any,
        mask: Tensor | None,
        resets: Tensor | None,
        lengths: Tensor | None,
    ) -> tuple[Tensor, Any]:
        if self.bidirectional:
            return self._both_ways(x, hx, mask, resets, lengths)
        out = self._call(x, hx, mask, resets, with_outputs=True)
        if isinstance(hx, State):
            return self._cast(out.outputs), out.state
        return self._cast(out.outputs), self._final([out])

    def _call(
        self,
        x: Tensor,
        hx: Any,
        mask: Tensor | None,
        resets: Tensor | None,
        *,
        with_outputs: bool,
    ) -> Output:
        (stack,) = self._stacks()
        state = hx if isinstance(hx, State) else None
        rows = x.shape[1] if x.dim() == 3 else 1
        out: Output = rev_rnn(
            x, self.stack_parameters(*stack), self.config, hx=None if state else hx, state=state,
            mask=mask, resets=resets, gains=self.gains(rows, x.device),
            chunk_size=self.chunk_size, checkpoint_every=self.checkpoint_every,
            offload=self.offload, with_outputs=with_outputs,
        )  # fmt: skip
        return out

    def _both_ways(
        self,
        x: Tensor,
        hx: Any,
        mask: Tensor | None,
        resets: Tensor | None,
        lengths: Tensor | None,
    ) -> tuple[Tensor, Any]:
        if isinstance(hx, State):
            raise RevRNNError("E_UNSUPPORTED", "hx", "a State", "floats if bidirectional")
        if resets is not None or (mask is not None and lengths is None):
            name = "mask" if resets is None else "resets"
            allowed = "None, or a PackedSequence, if bidirectional"
            raise RevRNNError("E_UNSUPPORTED", name, "given", allowed)
        found: list[Output] = []
        for number, (config, layers, suffix) in enumerate(self._stacks()):
            if number % 2 == 0 and number and self.dropout:
                x = nn.functional.dropout(x, self.dropout, self.training)
            given = x if not suffix else _backwards(x, lengths)
            own = _rows_of_layer(hx, number)
            out = rev_rnn(
                given, self.stack_parameters(config, layers, suffix), config, hx=own, mask=mask,
                chunk_size=self.chunk_size, checkpoint_every=self.checkpoint_every,
                offload=self.offload,
            )  # fmt: skip
            found.append(out)
            if suffix:
                x = torch.cat([found[-2].outputs, _backwards(out.outputs, lengths)], 2)
        return self._cast(x), self._final(found)

    def _final(self, found: list[Output]) -> Any:
        h = self._cast(torch.cat([out.h_n for out in found]))
        if not self.config.has_cell_state:
            return h
        return h, self._cast(torch.cat([out.c_n for out in found if out.c_n is not None]))

    def _cast(self, value: Tensor) -> Tensor:
        return value.to(self.weight_ih_l0.dtype)

    def _one_direction(self, name: str) -> None:
        if self.bidirectional:
            raise RevRNNError("E_UNSUPPORTED", name, "bidirectional=True", "one direction")


def _rows(hx: Any, order: Tensor) -> Any:
    """Return initial or final states with rows in another order."""
    if hx is None:
        return None
    if isinstance(hx, Tensor):
        return hx.index_select(1, order)
    return tuple(part.index_select(1, order) for part in hx)


def _rows_of_layer(hx: Any, number: int) -> Any:
    """Return one layer's and direction's initial state."""
    if hx is None:
        return None
    if isinstance(hx, Tensor):
        return hx[number : number + 1]
    return tuple(part[number : number + 1] for part in hx)


def _backwards(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Return ``[T, B, F]`` with the steps of each row in reverse; padding stays where it is."""
    if lengths is None:
        return x.flip(0)
    steps = torch.arange(len(x), device=x.device)[:, None]
    ends = lengths.to(x.device)
    source = torch.where(steps < ends, ends - 1 - steps, steps)
    return x.gather(0, source[:, :, None].expand_as(x))


class RevGRU(RevRNNBase):
    """A reversible GRU (CELL-010 to 012), called as ``nn.GRU``.

    Training keeps a few bits a unit and step instead of states; gradients come by reversal. See
    :class:`RevRNNBase` for the arguments.
    """

    cell = "revgru"


class RevLSTM(RevRNNBase):
    """A reversible LSTM (CELL-020 to 022), called as ``nn.LSTM``; see :class:`RevRNNBase`."""

    cell = "revlstm"
