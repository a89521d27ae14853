"""The plausible mistakes that test vectors catch: the rule that each breaks, and a sentence."""

from __future__ import annotations

from typing import Final

MISTAKES: Final[dict[str, tuple[str, str]]] = {
    # Numbers
    "half_even_vs_half_up": (
        "QNT-001",
        "Quantisation rounds ties upwards instead of to the even integer.",
    ),
    "half_even_vs_away": (
        "QNT-001",
        "Quantisation rounds ties away from zero instead of to the even integer.",
    ),
    "truncation_vs_nearest": (
        "QNT-001",
        "Quantisation cuts fraction bits off instead of rounding.",
    ),
    "clip_vs_wrap": (
        "QNT-002",
        "A value beyond the end of its range wraps around instead of saturating.",
    ),
    "operand_range": (
        "QNT-002",
        "Operands and weights saturate at the ends of int16 instead of at 32512.",
    ),
    "kind_bits": ("QNT-002", "A kind of quantity is given another kind's number of fraction bits."),
    "dequantise_rounding": (
        "QNT-006",
        "An int32 becomes a float by truncation instead of to the nearest.",
    ),
    "floor_vs_truncation": (
        "GEN-003",
        "A shift of a negative number rounds towards zero instead of down.",
    ),
    "tie_direction": (
        "GEN-003",
        "A rounding shift takes negative ties away from zero instead of upwards.",
    ),
    "shift_zero": ("GEN-003", "A rounding shift by 0 bits changes the value."),
    "shift_width": ("GEN-003", "The sum inside a rounding shift is reduced to 32 bits."),
    "product_width": ("PROD-001", "A sum of products is accumulated in 32 bits."),
    "product_float32": ("PROD-001", "A sum of products is accumulated in binary32."),
    "byte_split": (
        "PROD-003",
        "Operands are split in bytes without carrying the low byte's sign upwards.",
    ),
    "byte_saturation": ("PROD-003", "Pairs of byte products saturate at the ends of int16."),
    # Activations
    "table_end": (
        "ACT-002",
        "The table's last interval is read past its end, or the magnitude is not capped.",
    ),
    "int32_magnitude": (
        "ACT-002",
        "The magnitude of -2^31 is taken in int32, where it is negative.",
    ),
    "int64_magnitude": (
        "ACT-002",
        "The magnitude of -2^63 is taken in int64, where it is negative.",
    ),
    "sum_width": ("ACT-002", "A pre-activation is reduced to 32 bits."),
    "odd_symmetry": (
        "ACT-002",
        "Tanh of a negative number is interpolated from below, so it is not odd.",
    ),
    "interpolation_rounding": (
        "ACT-002",
        "The interpolation is rounded down instead of to the nearest.",
    ),
    "sigmoid_bits": (
        "ACT-003",
        "Sigmoid halves the integer, losing a bit, instead of reading one bit more.",
    ),
    "sigmoid_floor": ("ACT-003", "Sigmoid rounds its last halving upwards."),
    "forget_rounding": ("ACT-004", "The forget gate is rounded down instead of to the nearest."),
    "forget_lower": ("ACT-005", "The forget gate can be 0."),
    "z_max_cap": ("FMT-005", "The forget gate is not capped at z_max."),
    "limit_slope": (
        "ACT-004",
        "The forget gate with a limit of n bits has slope 2^n instead of 2^n - 1.",
    ),
    "none_vs_10": ("ACT-005", "No limit is treated as a limit of 10 bits."),
    "view_rounding": ("FMT-004", "The view of a state is cut off instead of rounded."),
    # Buffer
    "signed_digit": (
        "BUF-001",
        "The digit and quotient of a negative state are those of division towards 0.",
    ),
    "residue_lost": ("MUL-001", "The product lacks the residue."),
    "push_threshold": ("BUF-031", "A head of exactly z·2^21 does not push a word."),
    "threshold_z": ("BUF-031", "The threshold for pushing does not depend on the gate."),
    "pop_threshold": ("BUF-032", "A head of exactly 2^15 takes a word back."),
    "stack_order": (
        "BUF-005",
        "Words enter the stack by unit and then row instead of by row and then unit.",
    ),
    "pop_order": (
        "BUF-005",
        "Units take words in the order in which they pushed instead of the reverse.",
    ),
    "mask_after_push": ("MUL-004", "Units of masked rows use the buffer."),
    "slice_pushes": ("MUL-005", "Sliced units use the buffer."),
    "slice_residue": (
        "MUL-005",
        "Sliced units that are masked out lose their digits, or take stored values.",
    ),
    "head_width": ("BUF-001", "The number n = 1024·x + low is reduced to 32 bits."),
    "head_float": ("BUF-001", "A head is divided in floating point."),
    "bigint_width": ("BUF-010", "Heads of layout bigint are reduced to 64 bits."),
    "spill_any": (
        "BUF-022",
        "Only the units that are full are spilled instead of all active ones.",
    ),
    "spill_inactive": ("BUF-022", "Inactive units decide about a spill."),
    "spill_plane": ("BUF-022", "A plane holds the heads of inactive units instead of 0."),
    "spill_threshold": ("BUF-021", "A head of exactly 2^53 does not spill."),
    "spill_restore": ("BUF-023", "Inactive units take their heads from a plane."),
    "flag_always": ("BUF-021", "An operation without an active unit appends no flag."),
    "underflow": ("BUF-032", "Popping from an empty store delivers zeros."),
    "pop_range": ("BUF-024", "A pop that passes 2^63 is carried out."),
    # Cells
    "group_order": ("CELL-004", "Group 2 is updated before group 1."),
    "group_old": ("CELL-004", "Group 2 is updated from the old group 1."),
    "weight_rows": (
        "CELL-003",
        "The rows of the weights are read gate by gate, both groups in each.",
    ),
    "gate_order": (
        "CELL-002",
        "The gates are taken from the rows of the weights in another order.",
    ),
    "reset_rounding": (
        "CELL-011",
        "The product of reset gate and view is cut off instead of rounded.",
    ),
    "reset_ignored": (
        "CELL-011",
        "The candidate is computed from the view without the reset gate.",
    ),
    "bias_scale": (
        "PROD-004",
        "The bias is scaled as if it had the fraction bits of another product.",
    ),
    "view_scale": (
        "PROD-004",
        "The view's product is not brought to the fraction bits of the input's.",
    ),
    "hard_coded_shift": ("CELL-012", "The update is shifted as if the state had 23 fraction bits."),
    "z_max_default": ("FMT-005", "RevLSTM's forget gates are capped at 1024 by default."),
    "p_max_default": ("FMT-007", "RevLSTM's gate p is capped as f is by default."),
    "p_max_cap": ("FMT-007", "RevLSTM's gate p is capped at the default, whatever p_max says."),
    "old_cell": ("CELL-022", "The hidden state is updated from the old cell state."),
    "cell_tanh_bits": (
        "CELL-022",
        "Tanh of the cell state reads it with the fraction bits of sums.",
    ),
    "undo_order": ("CELL-040", "The reverse undoes the cell state before the hidden state."),
    "keeping_limit": ("CELL-030", "The non-forgetting RevGRU ignores the limit."),
    "wrap_vs_saturation": ("MUL-006", "A state that leaves int32 saturates instead of wrapping."),
    # Sequences
    "mask_ignored": ("SEQ-002", "A masked row's state is updated."),
    "layer_order": ("SEQ-001", "The layers of a step are updated from the top."),
    "carry_heads": ("SEQ-006", "The heads that are given are replaced by fresh ones."),
    "layer_heads": ("SEQ-003", "Each layer has heads of its own."),
    "group_heads": ("SEQ-003", "Each group has heads of its own."),
    "upper_input_time": (
        "SEQ-004",
        "A layer's input is the layer below before this step's update.",
    ),
    "upper_input_order": (
        "SEQ-004",
        "A layer's input has the groups of the layer below in reverse order.",
    ),
    "upper_input_scale": (
        "SEQ-004",
        "A layer's input from below is read with the input's fraction bits.",
    ),
    "gain_rounding": (
        "SEQ-012",
        "An input multiplied by a gain is rounded down instead of to the nearest.",
    ),
    "gain_clip": ("SEQ-012", "An input multiplied by a gain leaves the operands' range."),
    "gain_layer": ("SEQ-012", "A layer's input is multiplied by another layer's gains."),
    "gain_step": ("SEQ-012", "Undoing a step multiplies by the first step's gains."),
    "slice_index": ("SEQ-007", "Undoing a step restores the sliced units of after it."),
    "slice_layer": ("SEQ-007", "The bottom layer is sliced instead of the top one."),
    "slice_group": ("SEQ-007", "Group 2 is sliced instead of group 1."),
    "slice_cell_state": ("SEQ-007", "RevLSTM's cell state is sliced too."),
    "output_masked": (
        "SEQ-005",
        "The output of a masked step is 0 instead of the unchanged state.",
    ),
    "wraps_zero": ("MUL-006", "Wraps are not counted."),
    "wraps_masked": ("MUL-006", "Wraps that a masked row would have made are counted."),
    # Accounting
    "count_masked": ("ACC-001", "Gates of masked rows are counted."),
    "count_sliced": ("ACC-001", "Gates of sliced units are counted."),
    "padding_counts": ("ACC-004", "Masked steps count as plain bits."),
    "slice_bits": ("ACC-003", "The slices of masked steps, or not the first slices, are charged."),
    "head_bits": ("ACC-003", "Heads are not charged."),
    "plane_bits": (
        "ACC-003",
        "A plane is charged for the units that spilled instead of as a whole.",
    ),
    "flag_bits": ("ACC-003", "Flags are not charged."),
    # Gradients
    "saturated_view": ("GRAD-002", "A saturated view of a state passes its gradient."),
    "clipped_gate": ("GRAD-010", "A clipped forget gate passes its gradient."),
    "limit_gradient": ("GRAD-010", "The gradient of the forget gate lacks the factor 1 - 2^-n."),
    "masked_gradient": ("GRAD-015", "A masked step contributes to gradients."),
    "keeping_gradient": (
        "GRAD-012",
        "The non-forgetting RevGRU's gradients contain the terms of revmul.",
    ),
    # Errors
    "unchecked_name": ("ERR-002", "A name that is unknown or missing is let through."),
    "unchecked_value": (
        "ERR-002",
        "A setting outside its allowed values is let through, or wrongly reported.",
    ),
    "unchecked_array": ("ERR-002", "A wrong type, shape or content of an array is let through."),
    "error_order": (
        "ERR-002",
        "Of several faults another one than the first in order is reported.",
    ),
}

# As the manifest of the vectors has them.
FLAGS: Final = {flag: f"{rule}: {sentence}" for flag, (rule, sentence) in MISTAKES.items()}
