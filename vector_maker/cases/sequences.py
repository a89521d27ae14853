"""The cases of SEQ and ACC: sequences, their reversal and their accounts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np

from revrnn.config import Config
from revrnn.formats import Formats

from .draft import Arguments, Draft, Evaluate, i32, mistakes
from .requests import CARRIED_HEADS, FORGETFUL, HOLES, LENGTHS, Contents, Mask, rules_of, sequence

MISTAKES: Final = mistakes("""
mask_ignored SEQ-002 A masked row's state is updated.
layer_order SEQ-001 The layers of a step are updated from the top.
carry_heads SEQ-006 The heads that are given are replaced by fresh ones.
layer_heads SEQ-003 Each layer has heads of its own.
group_heads SEQ-003 Each group has heads of its own.
upper_input_time SEQ-004 A layer's input is the layer below before this step's update.
upper_input_order SEQ-004 A layer's input has the groups of the layer below in reverse order.
upper_input_scale SEQ-004 A layer's input from below is read with the input's fraction bits.
gain_rounding SEQ-012 An input multiplied by a gain is rounded down instead of to the nearest.
gain_float32 SEQ-012 The product of an input and its gain is made in binary32.
gain_clip SEQ-012 An input multiplied by a gain leaves the operands' range.
gain_layer SEQ-012 A layer's input is multiplied by another layer's gains.
gain_step SEQ-012 Undoing a step multiplies by the first step's gains.
slice_index SEQ-007 Undoing a step restores the sliced units of after it.
slice_layer SEQ-007 The bottom layer is sliced instead of the top one.
slice_group SEQ-007 Group 2 is sliced instead of group 1.
slice_cell_state SEQ-007 RevLSTM's cell state is sliced too.
output_masked SEQ-005 The output of a masked step is 0 instead of the unchanged state.
count_masked ACC-001 Gates of masked rows are counted.
count_sliced ACC-001 Gates of sliced units are counted.
padding_counts ACC-004 Masked steps count as plain bits.
slice_bits ACC-003 The slices of masked steps, or not the first slices, are charged.
head_bits ACC-003 Heads are not charged.
plane_bits ACC-003 A plane is charged for the units that spilled instead of as a whole.
flag_bits ACC-003 Flags are not charged.
""")


def cases(evaluate: Evaluate) -> Iterator[Draft]:
    """Give the requests."""

    def trio(
        name: str,
        config: Config,
        mask: Mask,
        *catches: str,
        back: tuple[str, ...] = (),
        bits: tuple[str, ...] = (),
        trace: bool = False,
        contents: Contents = FORGETFUL,
        heads: Sequence[int] = (),
        **changes: Any,
    ) -> Iterator[Draft]:
        """Give a sequence, its reversal and its accounts."""
        args = sequence(name, config, mask, contents, heads) | changes
        traced = {"trace": True} if trace else {}
        rules = ("SEQ-001", "SEQ-002", "SEQ-005", "SEQ-006", *rules_of(config))
        if config.num_layers > 1:
            rules = (*rules, "SEQ-004", *(("SEQ-003",) if config.forgetting else ()))
        if "gains" in changes:
            rules = (*rules, "SEQ-012")
        if config.slice_size:
            rules = (*rules, "SEQ-007", "MUL-005")
        more = ("EVAL-009",) if trace else ()
        yield Draft("sequence_forward", args | traced, (*rules, "MUL-006", *more), catches)
        got = evaluate("sequence_forward", args)
        names = ("h", "c", "heads", "words", "flags", "slices")
        after = args | {n: got[n] for n in names if n in got}
        rules = ("SEQ-009", "BUF-003", "CELL-040", *rules, *more)
        yield Draft("sequence_reverse", after | traced, rules, back)
        # The counts of 1025 gates take room, so not every sequence has its accounts here.
        lstm_too = bool(config.slice_size) and config.buffer == "stream"
        if bits and (config.cell == "revlstm") == lstm_too:
            rules = ("ACC-001", "ACC-002", "ACC-003", "ACC-004")
            yield Draft("sequence_storage", args, rules, bits)

    for cell in ("revgru", "revlstm"):
        for layout in ("stream", "wordlist", "bigint"):
            yield from _forgetting_sequences(trio, cell, layout)
        keep = Config(cell, 1, 4, 2, forgetting=False)
        catches = ("mask_ignored", "upper_input_time", "upper_input_order", "output_masked")
        back = ("mask_ignored", "layer_order", "upper_input_order")
        bits = ("padding_counts",)
        yield from trio(f"{cell} keeping", keep, HOLES, *catches, back=back, bits=bits)
        yield from trio(
            f"{cell} keeping one", Config(cell, 1, 2, forgetting=False), [[1]] * 3, "group_old"
        )
        yield from _gained_sequences(trio, cell)
    # A slice of neither one unit nor half a group.
    yield from trio("slice of three", Config("revlstm", 1, 8, slice_size=3), [[1]] * 2)
    yield from _wrapping_sequences(trio)
    yield from _segments(trio, evaluate)


def _forgetting_sequences(
    trio: Callable[..., Iterator[Draft]], cell: str, layout: str
) -> Iterator[Draft]:
    tag = f"{cell} {layout}"
    heads = CARRIED_HEADS[layout]
    none = np.zeros((0, 2))
    yield from trio(f"{tag} no steps", Config(cell, 1, 2, buffer=layout), none, heads=heads)
    tiny = Config(cell, 1, 2, buffer=layout)
    charges = {"stream": ("head_bits",), "wordlist": ("head_bits", "flag_bits"), "bigint": ()}
    yield from trio(
        f"{tag} tiny",
        tiny,
        [[1]] * 6,
        "group_old",
        "group_heads",
        "carry_heads",
        back=("group_order",),
        bits=charges[layout],
        heads=heads[-1:],
        trace=True,
    )
    # Two layers and lengths: what layers share, what they pass on, who is masked.
    deep = Config(cell, 1, 4, 2, 3, buffer=layout)
    between = ("layer_heads", "group_heads", "upper_input_time", "upper_input_order", "layer_order")
    masks = ("mask_ignored", "mask_after_push", "output_masked")
    upper = ("upper_input_scale",) if cell == "revlstm" else ()
    if layout != "bigint":
        yield from trio(
            f"{tag} deep",
            deep,
            LENGTHS,
            *between,
            *masks,
            *upper,
            back=("layer_order", "mask_ignored", "mask_after_push", *upper),
            bits=("count_masked", "padding_counts") * (layout == "stream"),
            trace=tag == "revgru stream",
        )
    # Slices in the top layer, masks with holes.
    sliced = Config(cell, 1, 4, 2, 1, buffer=layout, slice_size=1)
    slices: tuple[str, ...] = ("slice_layer", "slice_group", "slice_pushes")
    slices += ("slice_cell_state",) if cell == "revlstm" else ()
    yield from trio(
        f"{tag} sliced",
        sliced,
        HOLES,
        *slices,
        "carry_heads",
        back=("slice_index", "slice_layer"),
        bits=("count_sliced", "slice_bits", "count_masked"),
        heads=heads[1:],
        trace=tag in ("revlstm stream", "revgru wordlist"),
    )
    if layout == "stream":
        whole = Config(cell, 1, 4, slice_size=2)
        yield from trio(f"{tag} all sliced", whole, LENGTHS[:2], *slices[1:])
        three = Config(cell, 1, 2, 3, 10)
        yield from trio(f"{tag} three", three, [[1]] * 3, *between[:4], back=("layer_order",))
        formats = Formats(state_bits=18, operand_bits=11, lstm_view_bits=8, weight_bits=9)
        other = Config(cell, 1, 4, 2, 5, z_max=700, formats=formats)
        contents = Contents(weights=900, inputs=3000, bias=2**18, state=2**19)
        catches = ("hard_coded_shift", "z_max_cap", *upper)
        yield from trio(
            f"{tag} formats", other, HOLES, *catches, back=("hard_coded_shift",), contents=contents
        )
        hard = Contents(weights=32512, inputs=32512, bias=2**31 - 1, state=2**31 - 1)
        loud = Config(cell, 1, 4, 1, 3)
        yield from trio(f"{tag} hard", loud, HOLES, "sum_width", contents=hard, heads=heads)
    if layout == "wordlist":
        yield from trio(
            f"{tag} spills",
            Config(cell, 1, 4, buffer=layout),
            [[1, 0], [0, 0], [1, 1]],
            "spill_any",
            "flag_always",
            "spill_plane",
            back=("flag_always", "spill_restore"),
            bits=("plane_bits", "flag_bits"),
            heads=(2**52, 2**50, 2**45),
            trace=True,
        )


def _gained_sequences(trio: Callable[..., Iterator[Draft]], cell: str) -> Iterator[Draft]:
    """Give three layers gains of dropout, of one, and so large that they saturate."""
    config = Config(cell, 1, 2, 3, 3, p_max=1019 if cell == "revlstm" else None)
    # Five values against groups of four: no two steps or layers have the same.
    gains = i32([4096, 5461, 0, 65536, 6001] * 5)[:24].reshape(3, 2, 2, 2)
    catches = ("gain_rounding", "gain_clip", "gain_layer")
    contents = Contents(forget=-(2**24), state=2**27)
    yield from trio(
        f"{cell} gains",
        config,
        [[1, 1], [1, 0], [1, 1]],
        *catches,
        back=(*catches, "gain_step"),
        contents=contents,
        gains=gains,
    )


def _wrapping_sequences(trio: Callable[..., Iterator[Draft]]) -> Iterator[Draft]:
    """Give states that leave int32, where nothing but z_max = 1024 prevents it."""
    mask = [[1, 1, 0], [1, 0, 0], [1, 1, 0]]
    fast = Contents(weights=0, inputs=0, bias=2**10, state=0, forget=2**30)
    config = Config("revlstm", 1, 2, z_max=1024, p_max=1024)
    rows = 2 * config.num_gates
    bias = i32([2**30] * rows)
    ends = i32([[[2**31 - 9, 2**31 - 1]] * 3])
    catches = ("wrap_vs_saturation", "wraps_zero", "wraps_masked")
    changes: Arguments = {"bias_l0": bias, "h": ends, "c": ends.copy()}
    back = ("wrap_vs_saturation",)
    yield from trio("wraps", config, mask, *catches, back=back, contents=fast, **changes)
    keep = Config("revlstm", 1, 2, forgetting=False)
    changes = changes | {"bias_l0": i32([-(2**30)] * 6), "h": -ends, "c": -ends}
    changes["bias_l0"][[0, 2, 3, 5]] = 2**30  # i and o open, g at -1
    yield from trio("keeping wraps", keep, mask, *catches, back=back, contents=fast, **changes)


def _segments(trio: Callable[..., Iterator[Draft]], evaluate: Evaluate) -> Iterator[Draft]:
    """Give a sequence whole and in two segments, the second from the state of the first."""
    for cell, layout in (("revgru", "stream"), ("revlstm", "wordlist"), ("revgru", "bigint")):
        config = Config(cell, 1, 2, buffer=layout)
        name, mask = f"segments {cell} {layout}", [[1, 1], [1, 0], [1, 1], [1, 1]]
        contents = Contents(forget=-(2**25))
        yield from trio(name, config, mask, "group_old", contents=contents)
        whole = sequence(name, config, mask, contents)
        first = {"x": whole["x"][:2], "mask": whole["mask"][:2]}
        yield Draft("sequence_forward", whole | first, ("SEQ-008", "SEQ-010"))
        got = evaluate("sequence_forward", whole | first)
        after = {n: got[n] for n in ("h", "c", "heads") if n in got}
        second = {"x": whole["x"][2:], "mask": whole["mask"][2:]} | after
        rules = ("SEQ-008", "SEQ-010")
        yield Draft("sequence_forward", whole | second, rules, ("carry_heads",))
