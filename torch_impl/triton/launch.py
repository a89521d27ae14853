"""The order of kernels over a chunk, forward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from . import gru, inputs, lstm, tiles, words
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


class Forward:
    """Launches the kernels of the way forward over some arrays."""

    def __init__(self, arrays: Arrays, mode: Mode) -> None:
        """Fix what all launches have alike."""
        self.arrays, self.mode, config = arrays, mode, arrays.config
        f, t = config.formats, arrays.tiles
        self.layers, self.gru = range(config.num_layers), config.cell == "revgru"
        self.shift = f.state_bits - config.view_bits
        self.cut = {"BM": t.rows, "BN": t.units}
        self.cut_k = {**self.cut, "BK": t.block}
        self.size = {"G": arrays.units, "Gp": arrays.padded_units}
        limit = {"LIMIT": config.max_forget_bits or 0}
        self.gate = {**limit, "Z_MAX": config.resolved_z_max}
        self.search = {"CP": power(arrays.padded_rows * arrays.across), "NP": power(arrays.across)}
        self.options = {"num_warps": t.warps, "num_stages": t.stages}
        self.formats: dict[str, Any] = {
            "R_S": f.sum_bits,
            "R_H": f.state_bits,
            "SHIFT": self.shift,
            **limit,
            "FORGET": config.forgetting,
            "MASK": mode.mask,
            "GAINS": mode.gains,
        }
        if self.gru:
            self.formats |= self.gate
        else:
            self.formats |= {
                "XS": f.operand_bits - config.view_bits,
                "P_MAX": config.resolved_p_max,
            }
        self.rows = (arrays.batch, arrays.padded_rows)

    def input_parts(self, steps: int) -> None:
        """Compute the first layer's input parts of so many steps."""
        a = self.arrays
        m, gates = steps * a.batch, 2 * a.config.num_gates
        rows, units = (16, 16) if a.padded_units % 32 else (64, 32)
        grid = (-(-m // rows) * (a.padded_units // units), gates)
        inputs.input_part[grid](
            a.x,
            *a.input_bytes,
            a.bias[0],
            a.part,
            m,
            a.config.input_size,
            Ip=a.length,
            N=a.config.num_gates,
            **self.size,
            BM=rows,
            BN=units,
            BK=64,
            num_warps=4,
            num_stages=3,
        )

    def prepare(self, t: int) -> None:
        """Publish the states that stand; gains are those of step ``t``."""
        a = self.arrays
        tiles.prepare[a.grid, a.slots](
            a.h,
            a.high,
            a.low,
            a.gains,
            t,
            a.slots,
            *self.rows,
            **self.size,
            SHIFT=self.shift,
            GAINS=self.mode.gains,
            **self.cut,
        )

    def step(self, t: int) -> None:
        """Take one step."""
        a, config = self.arrays, self.arrays.config
        past_h, past_c = a.past if self.mode.stored else (a.h, a.c)
        options = {
            "KEEP": self.mode.keep,
            "WRAPS": config.can_wrap,
            "RECORD": self.mode.stored,
            **self.size,
            **self.formats,
            **self.cut_k,
            **self.options,
        }
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
                        *at,
                        op,
                        depth,
                        part,
                        a.mask,
                        a.gains,
                        *a.bytes[layer],
                        a.table,
                        a.high,
                        a.low,
                        a.one,
                        a.h,
                        a.heads,
                        a.stage,
                        a.counts,
                        a.wraps,
                        a.outputs,
                        past_h,
                        *self.rows,
                        FIRST=first,
                        **options,
                    )
                else:
                    lstm.lstm_state[(a.grid,)](
                        *at,
                        op,
                        depth,
                        part,
                        a.mask,
                        a.gains,
                        *a.bytes[layer],
                        a.table,
                        a.high,
                        a.low,
                        a.h,
                        a.c,
                        a.heads,
                        a.stage,
                        a.counts,
                        a.wraps,
                        a.outputs,
                        past_h,
                        past_c,
                        *self.rows,
                        FIRST=first,
                        **(self.gate | options),
                    )
                op += per_group

    def _gates(
        self, at: tuple[int, ...], last: tuple[int, int, int], part: Tensor, *, refill: bool
    ) -> None:
        a, layer = self.arrays, at[1]
        gru.gru_gates[a.grid, 2](
            *at,
            *last,
            part,
            a.mask,
            *a.bytes[layer],
            a.table,
            a.high,
            a.low,
            a.one,
            a.two,
            a.heads,
            a.counts,
            a.words,
            a.tops,
            *self.rows,
            FIRST=layer == 0,
            GAINS=self.mode.gains,
            MASK=self.mode.mask,
            R_S=self.formats["R_S"],
            REFILL=refill,
            **self.size,
            **self.search,
            **self.cut_k,
            **self.options,
        )

    def compact(self, steps: int, into: Tensor) -> None:
        """Bring the words of so many steps, whose places are known, together."""
        a = self.arrays
        words.compact[(steps * a.operations * a.padded_rows,)](
            a.stage, a.counts, a.places, into, NT=a.across, BN=a.tiles.units, num_warps=1
        )
