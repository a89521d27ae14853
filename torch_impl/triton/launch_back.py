"""The order of kernels over a chunk, back, and on the gradient's way."""

from __future__ import annotations

from typing import Any

from . import gradient, gru_back, lstm_back, words
from .launch import Forward


class Launcher(Forward):
    """Launches kernels over some arrays, in both directions."""

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
            "STORED": self.mode.stored,
            "VIEW": config.view_bits,
            **self.size,
            **self.formats,
            **self.cut_k,
            **self.options,
        }
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
                    gru_back.gru_unstate[(a.grid,)](
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
                        a.two,
                        a.h,
                        a.heads,
                        a.counts,
                        a.restore,
                        a.outputs,
                        lower,
                        tape,
                        past_h,
                        *self.rows,
                        a.steps,
                        **more,
                    )
                    last = (op, t, depth) if popping else last
                    continue
                lstm_back.lstm_unhide[(a.grid,)](
                    *at,
                    op,
                    depth,
                    *last[:2],
                    part,
                    a.mask,
                    a.gains,
                    *a.bytes[layer],
                    a.table,
                    a.high,
                    a.low,
                    a.one,
                    a.two,
                    a.h,
                    a.c,
                    a.heads,
                    a.counts,
                    a.words,
                    a.tops,
                    a.restore,
                    a.outputs,
                    lower,
                    tape,
                    past_h,
                    past_c,
                    *self.rows,
                    a.steps,
                    **self.search,
                    **more,
                )
                if config.forgetting:
                    lstm_back.lstm_uncell[(a.grid,)](
                        *at,
                        op,
                        depth,
                        a.mask,
                        a.one,
                        a.two,
                        a.c,
                        a.heads,
                        a.counts,
                        a.words,
                        a.tops,
                        tape,
                        past_c,
                        *self.rows,
                        a.steps,
                        MASK=self.mode.mask,
                        R_H=self.formats["R_H"],
                        STORED=self.mode.stored,
                        **self.gate,
                        **self.size,
                        **self.search,
                        **self.cut,
                        num_warps=self.arrays.tiles.warps,
                    )
                    last = (op, t, 0) if popping else last
        return last

    def refill(self, last: tuple[int, int, int]) -> None:
        """Give the heads of the last operation that was undone their words."""
        a = self.arrays
        if last[0] >= 0:
            words.refill[(a.grid,)](
                *last,
                a.mask,
                a.heads,
                a.counts,
                a.words,
                a.tops,
                *self.rows,
                MASK=self.mode.mask,
                **self.size,
                **self.search,
                **self.cut,
            )

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
                        *at,
                        now,
                        tape,
                        w,
                        dh,
                        dc,
                        ds,
                        *rows,
                        FORGET=config.forgetting,
                        **padded,
                        **cut,
                    )
            if layer:
                gradient.to_layer_below[a.grid, 2](
                    t,
                    layer,
                    a.slots,
                    now,
                    lower,
                    a.floats_in[layer],
                    dh,
                    ds,
                    *rows,
                    N=config.num_gates,
                    **padded,
                    **cut,
                )
