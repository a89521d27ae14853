"""The cases of CELL: one cell, one step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from revrnn.config import Config
from revrnn.evaluation import empty_store
from revrnn.formats import Formats

from .draft import Arguments, Draft, Evaluate, i32, mistakes
from .requests import CARRIED_HEADS, FORGETFUL, STILL, Contents, rules_of, sequence

MISTAKES: Final = mistakes("""
group_order CELL-004 Group 2 is updated before group 1.
group_old CELL-004 Group 2 is updated from the old group 1.
weight_rows CELL-003 The rows of the weights are read gate by gate, both groups in each.
gate_order CELL-002 The gates are taken from the rows of the weights in another order.
reset_rounding CELL-011 The product of reset gate and view is cut off instead of rounded.
reset_float32 CELL-011 The product of reset gate and view is made in binary32.
reset_ignored CELL-011 The candidate is computed from the view without the reset gate.
update_float32 CELL-012 The product of 1 - z and the candidate is made in binary32.
hard_coded_shift CELL-012 The update is shifted as if the state had 23 fraction bits.
old_cell CELL-022 The hidden state is updated from the old cell state.
cell_float32 CELL-022 Tanh of the cell state reads it in binary32.
cell_tanh_bits CELL-022 Tanh of the cell state reads it with the fraction bits of sums.
undo_order CELL-040 The reverse undoes the cell state before the hidden state.
keeping_limit CELL-030 The non-forgetting RevGRU ignores the limit.
""")


def cases(evaluate: Evaluate) -> Iterator[Draft]:
    """Give the requests."""

    def pair(
        name: str,
        config: Config,
        rows: int,
        forward: tuple[str, ...] = (),
        inverse: tuple[str, ...] = (),
        contents: Contents = FORGETFUL,
        heads: Sequence[int] = (),
        **changes: Any,
    ) -> Iterator[Draft]:
        args = sequence(name, config, [[1] * rows], contents, heads) | changes
        args["x"] = args["x"][0]
        del args["mask"]
        if config.forgetting:
            args |= empty_store(config.buffer, rows, config.group_size)
        rules = rules_of(config)
        yield Draft("cell_forward", args, ("CELL-003", "CELL-004", *rules), forward)
        back = args | evaluate("cell_forward", args)
        yield Draft("cell_reverse", back, ("CELL-040", *rules), inverse)

    common: tuple[str, ...] = ("group_order", "weight_rows", "gate_order")
    for layout in ("stream", "wordlist", "bigint"):
        heads = CARRIED_HEADS[layout]
        gru = Config("revgru", 2, 4, buffer=layout)
        own = (*common, "group_old", "reset_ignored")
        yield from pair(f"gru {layout}", gru, 2, own, common, heads=heads)
        lstm = Config("revlstm", 2, 4, buffer=layout)
        forward = (*common, "group_old", "old_cell", "view_scale", "cell_tanh_bits")
        yield from pair(f"lstm {layout}", lstm, 2, forward, (*common, "undo_order"), heads=heads)
    gru = Config("revgru", 2, 4, forgetting=False, max_forget_bits=2, z_max=600)
    own = (*common, "group_old", "keeping_limit", "z_max_cap")
    yield from pair("keeping gru", gru, 2, own, common)
    lstm = Config("revlstm", 2, 4, forgetting=False)
    yield from pair("keeping lstm", lstm, 2, (*common, "group_old", "old_cell"), common)
    odd = Formats(state_bits=20, operand_bits=9, lstm_view_bits=7, weight_bits=11)
    wide = Formats(state_bits=24, operand_bits=13, lstm_view_bits=6, weight_bits=13)
    for number, formats in enumerate((odd, wide)):
        contents = Contents(weights=3000, inputs=900, bias=2**19, state=2**21)
        catches: tuple[str, ...] = ("hard_coded_shift", "kind_bits")
        gru = Config("revgru", 1, 2, formats=formats)
        yield from pair(f"gru formats {number}", gru, 2, catches, catches, contents)
        lstm = Config("revlstm", 1, 2, formats=formats)
        catches = (*catches, "view_scale", "bias_scale")
        yield from pair(f"lstm formats {number}", lstm, 2, catches, catches, contents)
    # No shift where views and operands have the same fraction bits.
    same = Config("revlstm", 1, 2, formats=Formats(operand_bits=10, lstm_view_bits=10))
    yield from pair("lstm formats alike", same, 2)
    # Gates at both of their ends, states at the ends of int32.
    hard = Contents(weights=32512, inputs=32512, bias=2**31 - 1, state=2**31 - 1)
    for cell in ("revgru", "revlstm"):
        config = Config(cell, 2, 4)
        yield from pair(f"{cell} hard", config, 2, ("sum_width",), ("sum_width",), hard)
    yield from _tuned_cells(pair)


def _tuned_cells(pair: Callable[..., Iterator[Draft]]) -> Iterator[Draft]:
    """Give single cells in which one thing decides."""
    # All gates open wide: the default cap of RevLSTM is reached.
    keep = Contents(weights=100, inputs=100, bias=100, state=2**24, forget=2**29)
    cap = ("z_max_default",)
    default = (*cap, "p_max_default")
    yield from pair("lstm cap", Config("revlstm", 1, 2), 1, default, default, keep)
    own = ("p_max_cap",)
    for z_max, p_max in ((None, 600), (700, 1024)):
        config = Config("revlstm", 1, 2, z_max=z_max, p_max=p_max)
        yield from pair(f"lstm p cap {p_max}", config, 1, own, own, keep)
    low = Formats(state_bits=21, operand_bits=12, lstm_view_bits=10, weight_bits=12)
    yield from pair("lstm cap 21", Config("revlstm", 1, 2, formats=low), 1, cap, cap, keep)
    yield from pair("gru cap", Config("revgru", 1, 2, z_max=512), 1, ("z_max_cap",), (), keep)
    # Large weights on the recurrent side show the last bit of r·v.
    loud = Contents(weights=32512, inputs=0, bias=2**20, state=2**20)
    config = Config("revgru", 1, 4)
    yield from pair("gru reset", config, 4, ("reset_rounding",), ("reset_rounding",), loud)
    # All forgotten, the least possible gate.
    drop = Contents(weights=100, inputs=100, bias=100, state=2**30, forget=-(2**30))
    for limit in (None, 1, 3, 10):
        config = Config("revgru", 1, 2, max_forget_bits=limit)
        catches = ("forget_lower",) if limit is None else ()
        yield from pair(f"gru drop {limit}", config, 1, catches, (), drop)
    # Every head is as full as can be, so all units push in both operations.
    config = Config("revgru", 1, 4)
    yield from pair("gru full heads", config, 4, (), (), drop, heads=(2**31 - 1,))
    # States that leave int32.
    wraps = ("wrap_vs_saturation",)
    ends = i32([[[2**31 - 9, 2**31 - 1]] * 2])
    changes: Arguments = {"bias_l0": i32([2**30] * 10), "h": ends, "c": ends}
    config = Config("revlstm", 1, 2, z_max=1024, p_max=1024)
    yield from pair("lstm wraps", config, 2, wraps, wraps, STILL, **changes)
    changes = {"bias_l0": i32([-(2**30), 0, -(2**30)] * 2), "h": -ends}
    config = Config("revgru", 1, 2, forgetting=False)
    yield from pair("gru wraps", config, 2, wraps, wraps, STILL, **changes)
