"""Device arrays of a chunk: padded states, byte planes of weights, tapes, words."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from revrnn.config import Config

from ...gpu.pointers import Pointers
from ...gpu.sizes import Sizes, Tiles
from ..activations import packed_table
from ..state import State


class Arrays(Sizes):
    """The arrays of the kernels of one configuration, batch and chunk size."""

    def __init__(
        self, config: Config, batch: int, steps: int, device: torch.device, tiles: Tiles
    ) -> None:
        """Allocate all arrays that every pass needs."""
        super().__init__(config, batch, steps, tiles)
        self.device = device
        layers, gates, units = config.num_layers, config.num_gates, self.units
        rows, padded = self.padded_rows, self.padded_units
        new, byte = self._new, torch.int8
        self.h = new(self.slots, rows, padded)
        self.c = new(self.slots, rows, padded) if config.has_cell_state else self.h
        # Views, what layers take in with gains, RevGRU's u.
        self.high = new(2 * self.slots + 1, rows, padded, kind=byte)
        self.low = torch.zeros_like(self.high)
        self.heads = torch.full((rows, padded), 1 << 15, dtype=torch.int32, device=device)
        self.x = new(steps, batch, config.input_size, kind=torch.int16)
        self.part = new(steps, batch, 2, gates, units, kind=torch.int64)
        self.mask = new(steps, batch, kind=byte)
        self.gains = new(steps, max(layers - 1, 1), batch, 2 * units) if layers > 1 else self.h
        self.sigmas, self.aside = new(rows, padded), new(rows, padded)
        self.outputs = new(steps, batch, 2 * units)
        self.restore = new(max(steps * batch * config.slice_size, 1))
        self.wraps, self.meeting = new(1), new(1)
        self.table = packed_table(device)
        self._operations()
        self._weights()
        self.none = new(1, kind=torch.float32)
        # Made when a pass goes back or keeps states.
        self._tape: tuple[Tensor, Tensor] | None = None
        self._gradients: tuple[Tensor, ...] | None = None
        self._past: tuple[Tensor, Tensor] | None = None

    def _new(self, *shape: int, kind: torch.dtype = torch.int32) -> Tensor:
        return torch.zeros(shape, dtype=kind, device=self.device)

    def _operations(self) -> None:
        count = max(self.steps * self.operations, 1)
        shape = (count, self.padded_rows, self.across)
        staged = (*shape, self.tiles.units)
        self.stage = torch.empty(staged, dtype=torch.int16, device=self.device)
        self.counts, self.places = self._new(*shape), self._new(math.prod(shape))
        self.tops = self._new(count + 1)
        bound = self.config.words_bound(self.steps) * self.batch * self.units
        self.words = self._new(bound + 1, kind=torch.int16)

    def _weights(self) -> None:
        gates, padded, real = self.config.num_gates, self.padded_units, torch.float32
        self.bytes: list[tuple[Tensor, Tensor]] = []
        self.bias: list[Tensor] = []
        self.floats: list[Tensor] = []
        self.floats_in: list[Tensor] = []
        # Those of the layers above the first lie one after another.
        above = self.config.num_layers - 1
        for layers, width in ((1, self.config.input_size), (above, 2 * padded)):
            shape = (layers, 2, gates, padded)
            length = padded if not self.bytes else 3 * padded
            pair = [self._new(*shape, length, kind=torch.int8) for _ in range(2)]
            self.bytes += zip(*pair, strict=True)
            self.bias += self._new(*shape)
            self.floats += self._new(*shape, padded, kind=real)
            self.floats_in += self._new(*shape, width, kind=real)
        shape = (2, gates, padded, self.length)
        self.input_bytes = tuple(self._new(*shape, kind=torch.int8) for _ in range(2))
        self.loaded: object = None

    def load_weights(self, params: Mapping[str, Tensor]) -> None:
        """Copy parameters in fixed point into the padded arrays."""
        config, units, padded = self.config, self.units, self.padded_units
        scale = 2.0**-config.formats.weight_bits
        shape = (2, config.num_gates, units)
        for layer in range(config.num_layers):
            w_hh = params[f"weight_hh_l{layer}"].view(*shape, units)
            w_ih = params[f"weight_ih_l{layer}"].view(*shape, -1)
            self.bias[layer][:, :, :units] = params[f"bias_l{layer}"].view(shape)
            torch.mul(w_hh.float(), scale, out=self.floats[layer][:, :, :units, :units])
            pairs = [(w_hh, -padded)]
            if layer == 0:
                self.floats_in[0][:, :, :units] = w_ih.float() * scale
                _split(w_ih, self.input_bytes, units, 0, config.input_size)
            else:
                for group in (0, 1):
                    part = w_ih[..., group * units : (group + 1) * units]
                    at = slice(group * padded, group * padded + units)
                    self.floats_in[layer][:, :, :units, at] = part * scale
                    pairs.append((part, group * padded))
            width = self.bytes[layer][0].shape[-1]
            for part, begin in pairs:
                _split(part, self.bytes[layer], units, begin % width, units)

    @property
    def tape(self) -> tuple[Tensor, Tensor]:
        """Factors ``[2·L, planes, C, B, Gp]`` and inputs of upper layers ``[2·L, 2, C, B, Gp]``."""
        if self._tape is None:
            shape, real = (self.steps, self.batch, self.padded_units), torch.float32
            factors = self._new(self.slots, self.planes, *shape, kind=real)
            below = (self.slots, 2, *shape) if self.slots > 2 else (1,)
            self._tape = factors, self._new(*below, kind=real)
        return self._tape

    @property
    def gradients(self) -> tuple[Tensor, ...]:
        """``dh``, ``dc`` ``[2, 2·L, Bp, Gp]``; ``ds`` ``[2·L, C, B, N, Gp]``; scratch; outputs'."""
        if self._gradients is None:
            rows, padded, real = self.padded_rows, self.padded_units, torch.float32
            dh = self._new(2, self.slots, rows, padded, kind=real)
            shape = (self.slots, self.steps, self.batch, self.config.num_gates, padded)
            through = self._new(rows, padded, kind=real)
            given = self._new(self.steps, self.batch, 2 * self.units, kind=real)
            ds = self._new(*shape, kind=real)
            self._gradients = dh, torch.zeros_like(dh), ds, through, given
        return self._gradients

    @property
    def past(self) -> tuple[Tensor, Tensor]:
        """``h`` and ``c`` before each step and after the last, ``[C+1, 2·L, B, G]`` (GRAD-020)."""
        if self._past is None:
            h = self._new(self.steps + 1, self.slots, self.batch, self.units)
            self._past = h, torch.zeros_like(h) if self.config.has_cell_state else h
        return self._past

    def pointers(self, layer: int, back: bool = False) -> Pointers:
        """Return all arrays with a layer's weights; placeholders for those not made yet.

        The same arrays serve all layers above the first.
        """
        layer = min(layer, 1)
        return Pointers(
            *self.bytes[layer],
            self.floats[layer],
            self.floats_in[layer],
            self.bias[layer] if layer else self.part,
            *(self.table, self.mask, self.gains, self.high, self.low, self.sigmas, self.aside),
            *(self.h, self.c, self.heads, self.stage, self.counts, self.words, self.tops),
            *(self.wraps, self.meeting, self.outputs, self.restore),
            *(self._past or (self.h, self.c)),
            *(self.tape if back else self._tape or (self.none, self.none)),
            *(self._gradients or (self.none,) * 5),
        )

    def inside(self, padded: Tensor) -> Tensor:
        """Return ``[…, Bp, Gp]`` without its padding."""
        return padded[..., : self.batch, : self.units]

    def by_groups(self, states: Tensor) -> Tensor:
        """Return ``[L, B, 2·G]`` as ``[2·L, B, G]``."""
        layers, rows, _ = states.shape
        return states.view(layers, rows, 2, -1).transpose(1, 2).flatten(0, 1)

    def by_layers(self, groups: Tensor) -> Tensor:
        """Return ``[2·L, B, G]`` as ``[L, B, 2·G]``, in memory of its own."""
        slots, rows, units = groups.shape
        pairs = groups.view(slots // 2, 2, rows, units).transpose(1, 2)
        return pairs.reshape(slots // 2, rows, 2 * units).clone()

    def put_state(self, state: State) -> None:
        """Copy a state into the padded arrays."""
        self.inside(self.h).copy_(self.by_groups(state.h))
        if state.c is not None:
            self.inside(self.c).copy_(self.by_groups(state.c))
        if state.heads is not None:
            self.inside(self.heads).copy_(state.heads)

    def state(self) -> State:
        """Return the state in the arrays, in memory of its own."""
        h = self.by_layers(self.inside(self.h))
        c = self.by_layers(self.inside(self.c)) if self.config.has_cell_state else None
        return State(h, c, self.inside(self.heads).clone() if self.config.forgetting else None)


def _split(w: Tensor, into: tuple[Tensor, ...], units: int, begin: int, length: int) -> None:
    """Write weights int16 ``[2, N, G, K]`` as byte planes (FMT-003)."""
    at = slice(begin, begin + length)
    into[0][:, :, :units, at] = (w + 128) >> 8
    into[1][:, :, :units, at] = w.to(torch.int8)
