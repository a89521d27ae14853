"""The order of kernels over a chunk: forward, back, and the gradient's way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from . import gradient, gru, inputs, lstm, tiles, words
from .arrays import Arrays, power


@dataclass(frozen=True)
class Mode:
    """What kernels of a chunk are compiled for, besides the configuration.

    Attributes:
        mask: whether some rows may not have a step.
        gains: whether layers multiply their inputs.
        keep: whether words are kept.
        stored: whether states are stored (GRAD-020).
    """

    mask: bool = False
    gains: bool = False
    keep: bool = True
    stored: bool = False


class Launcher:
    """Launches kernels over some arrays."""

    def __init__(self, arrays: Arrays, mode: Mode) -> None:
        """Fix what all launches have alike."""
        self.arrays, self.mode, config = arrays, mode, arrays.config
        f, t = config.formats, arrays.tiles
        self.layers, self.gru = range(config.num_layers), config.cell == "revgru"
        self.shift = f.state_bits - config.view_bits
        self.cut = {"BM": t.rows, "BN": t.units}
        self.cut_k = {**self.cut, "BK": t.block}
        self.size = {"G": arrays.units, "Gp": arrays.padded_units}
        self.gate = {"LIMIT": config.max_forget_bits or 0, "Z_MAX": config.resolved_z_max}
        self.search = {"CP": power(arrays.padded_rows * arrays.across), "NP": power(arrays.across)}
        self.options = {"num_warps": t.warps, "num_stages": t.stages}
        self.formats: dict[str, Any] = {
            "R_S": f.sum_bits, "R_H": f.state_bits, "SHIFT": self.shift, **self.gate,
            "FORGET": config.forgetting, "MASK": mode.mask, "GAINS": mode.gains,
        }  # fmt: skip
        if not self.gru:
            self.formats["XS"] = f.operand_bits - config.view_bits
        self.rows = (arrays.batch, arrays.padded_rows)

    # --- forward -----------------------------------------------------------------------------

    def input_parts(self, steps: int) -> None:
        """Compute the first layer's input parts of so many steps."""
        a = self.arrays
        m, gates = steps * a.batch, 2 * a.config.num_gates
        rows, units = (16, 16) if a.padded_units % 32 else (64, 32)
        grid = (-(-m // rows) * (a.padded_units // units), gates)
        inputs.input_part[grid](
            a.x, *a.input_bytes, a.bias[0], a.part, m, a.config.input_size,
            Ip=a.length, N=a.config.num_gates, **self.size, BM=rows, BN=units, BK=64,
            num_warps=4, num_stages=3,
        )  # fmt: skip

    def prepare(self, t: int) -> None:
        """Publish the states that stand; gains are those of step ``t``."""
        a = self.arrays
        tiles.prepare[a.grid, a.slots](
            a.h, a.high, a.low, a.gains, t, a.slots, *self.rows,
            **self.size, SHIFT=self.shift, GAINS=self.mode.gains, **self.cut,
        )  # fmt: skip

    def step(self, t: int) -> None:
        """Take one step."""
        a, config = self.arrays, self.arrays.config
        past_h, past_c = a.past if self.mode.stored else (a.h, a.c)
        options = {
            "KEEP": self.mode.keep, "WRAPS": config.can_wrap, "RECORD": self.mode.stored,
            **self.size, **self.formats, **self.cut_k, **self.options,
        }  # fmt: skip
        per_group = config.state_arrays if config.forgetting else 0
        op = t * a.operations
        for layer in self.layers:
            first = layer == 0
            part = a.part if first else a.bias[layer]
            for group in (0, 1):
                depth = config.layer_slice(layer) if group == 0 else 0
                at = (t, layer, group, a.slots)
                if self.gru:
                    self._gates(at, (-1, 0, 0), part, refill=False)
                    gru.gru_state[(a.grid,)](
                        *at, op, depth, part, a.mask, a.gains, *a.bytes[layer], a.table,
                        a.high, a.low, a.one, a.h, a.heads, a.stage, a.counts, a.wraps,
                        a.outputs, past_h, *self.rows, FIRST=first, **options,
                    )  # fmt: skip
                else:
                    lstm.lstm_state[(a.grid,)](
                        *at, op, depth, part, a.mask, a.gains, *a.bytes[layer], a.table,
                        a.high, a.low, a.h, a.c, a.heads, a.stage, a.counts, a.wraps,
                        a.outputs, past_h, past_c, *self.rows, FIRST=first, **options,
                    )  # fmt: skip
                op += per_group

    def _gates(
        self, at: tuple[int, ...], last: tuple[int, int, int], part: Tensor, *, refill: bool
    ) -> None:
        a, layer = self.arrays, at[1]
        gru.gru_gates[a.grid, 2](
            *at, *last, part, a.mask, *a.bytes[layer], a.table, a.high, a.low, a.one, a.two,
            a.heads, a.counts, a.words, a.tops, *self.rows, FIRST=layer == 0,
            GAINS=self.mode.gains, MASK=self.mode.mask, R_S=self.formats["R_S"], REFILL=refill,
            **self.size, **self.search, **self.cut_k, **self.options,
        )  # fmt: skip

    def compact(self, steps: int, into: Tensor) -> None:
        """Bring the words of so many steps, whose places are known, together."""
        a = self.arrays
        words.compact[(steps * a.operations * a.padded_rows,)](
            a.stage, a.counts, a.places, into, NT=a.across, BN=a.tiles.units, num_warps=1
        )

    # --- back --------------------------------------------------------------------------------

    def step_back(self, t: int, last: tuple[int, int, int]) -> tuple[int, int, int]:
        """Take one step back.

        Args:
            t: the step.
            last: of the operation that was undone last, whose heads may still want words: its
                number (−1 for none), step and sliced units.

        Returns:
            The same for what was undone here.
        """
        a, config = self.arrays, self.arrays.config
        (past_h, past_c), (tape, lower) = a.past if self.mode.stored else (a.h, a.c), a.tape
        popping = config.forgetting and not self.mode.stored
        options = {
            "STORED": self.mode.stored, "VIEW": config.view_bits,
            **self.size, **self.formats, **self.cut_k, **self.options,
        }  # fmt: skip
        op = (t + 1) * a.operations
        for layer in reversed(self.layers):
            part = a.part if layer == 0 else a.bias[layer]
            for group in (1, 0):
                depth = config.layer_slice(layer) if group == 0 else 0
                op -= config.state_arrays if config.forgetting else 0
                at = (t, layer, group, a.slots)
                more: dict[str, Any] = {"FIRST": layer == 0, **options}
                if self.gru:
                    self._gates(at, last, part, refill=popping)
                    gru.gru_unstate[(a.grid,)](
                        *at, op, depth, part, a.mask, a.gains, *a.bytes[layer], a.table,
                        a.high, a.low, a.one, a.two, a.h, a.heads, a.counts, a.restore,
                        a.outputs, lower, tape, past_h, *self.rows, a.steps, **more,
                    )  # fmt: skip
                    last = (op, t, depth) if popping else last
                    continue
                lstm.lstm_unhide[(a.grid,)](
                    *at, op, depth, *last[:2], part, a.mask, a.gains, *a.bytes[layer], a.table,
                    a.high, a.low, a.one, a.two, a.h, a.c, a.heads, a.counts, a.words, a.tops,
                    a.restore, a.outputs, lower, tape, past_h, past_c, *self.rows, a.steps,
                    **self.search, **more,
                )  # fmt: skip
                if config.forgetting:
                    lstm.lstm_uncell[(a.grid,)](
                        *at, op, depth, a.mask, a.one, a.two, a.c, a.heads, a.counts, a.words,
                        a.tops, tape, past_c, *self.rows, a.steps, MASK=self.mode.mask,
                        R_H=self.formats["R_H"], STORED=self.mode.stored, **self.gate,
                        **self.size, **self.search, **self.cut, num_warps=self.arrays.tiles.warps,
                    )  # fmt: skip
                    last = (op, t, 0) if popping else last
        return last

    def refill(self, last: tuple[int, int, int]) -> None:
        """Give the heads of the last operation that was undone their words."""
        a = self.arrays
        if last[0] >= 0:
            gru.refill[(a.grid,)](
                *last, a.mask, a.heads, a.counts, a.words, a.tops, *self.rows,
                MASK=self.mode.mask, **self.size, **self.search, **self.cut,
            )  # fmt: skip

    # --- gradients ---------------------------------------------------------------------------

    def pull_step(self, t: int, now: int, given: bool) -> None:
        """Carry the gradients over one step.

        Args:
            t: the step.
            now: which copy of ``dh`` and ``dc`` stands; for RevLSTM the other stands afterwards.
            given: whether there are gradients of the outputs.
        """
        a, config = self.arrays, self.arrays.config
        (tape, lower), (dh, dc, ds, through, outputs) = a.tape, a.gradients
        rows = (*self.rows, a.steps)
        padded = {"Gp": a.padded_units}
        # RevLSTM's kernel loads twelve blocks at a time.
        block = min(a.tiles.block, 64 if self.gru else 32)
        cut = {**self.cut, "BK": block, "num_warps": a.tiles.warps, "num_stages": 2}
        if given:
            gradient.add_outputs[a.grid, 2](
                t, a.slots, now, dh, outputs, *self.rows, **self.size, **self.cut
            )
        for layer in reversed(self.layers):
            w = a.floats[layer]
            for group in (1, 0):
                at = (t, layer, group, a.slots)
                if self.gru:
                    both = (tape, w, dh, ds, through, *rows)
                    gradient.gru_to_u[(a.grid,)](*at, *both, **padded, **cut)
                    gradient.gru_to_view[(a.grid,)](
                        *at, *both, FORGET=config.forgetting, **padded, **cut
                    )
                else:
                    gradient.lstm_back[(a.grid,)](
                        *at, now, tape, w, dh, dc, ds, *rows,
                        FORGET=config.forgetting, **padded, **cut,
                    )  # fmt: skip
            if layer:
                gradient.to_layer_below[a.grid, 2](
                    t, layer, a.slots, now, lower, a.floats_in[layer], dh, ds, *rows,
                    N=config.num_gates, **padded, **cut,
                )  # fmt: skip
