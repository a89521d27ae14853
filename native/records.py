"""What compiled calls are given: arrays and numbers under names.

Numba takes the records apart; in a kernel their arrays are places (:mod:`.lanes`). All arrays are
contiguous, those of a configuration that does not have them are ``None``: Numba leaves out what
would be done with them where they are arguments of their own.
"""

from __future__ import annotations

from collections import namedtuple


class Numbers(namedtuple("Numbers", "plan table")):
    """What a configuration comes to.

    Attributes:
        plan: int64, see :mod:`.arithmetic`.
        table: of tanh, int32 ``[1025]``: 512 times a value, plus the step to the next.
    """


class Stack(namedtuple("Stack", "w_x w_l w_h norms bias")):
    """The packed weights of a stack of layers.

    Attributes:
        w_x: packed input weights of layer 0, int16, flat.
        w_l: of the layers above, ``[L−1, …]``.
        w_h: packed weights of the view, ``[L, 2, …]``.
        norms: of all weights, and the largest bias, int64 ``[L, 6]``, see :mod:`.sums`.
        bias: int32 ``[L, 2·N·G]``.
    """


class Steps(namedtuple("Steps", "x active aside_at gains")):
    """C steps of R rows.

    Attributes:
        x: operands, int16 ``[C, R, I]``, I even.
        active: uint8 ``[C, R]`` (SEQ-002).
        aside_at: int32 ``[C, R]``: where a row that starts anew is set aside, else −1; no steps
            where none does (SEQ-013).
        gains: int32 ``[C, L−1, R, H]``, or of no steps (SEQ-012).
    """


class Kept(namedtuple("Kept", "words keep tally aside_h aside_c slices states")):
    """What is kept of a chunk to go back.

    Attributes:
        words: int16, with room for a vector more than can be pushed, or behind what can be popped.
        keep: whether to keep words, 1 or 0.
        tally: int64, see :mod:`.buffers`.
        aside_h: int32 ``[n, L, 2, G]``; rows that find no room there are let go.
        aside_c: the same for ``c``, of no rows for RevGRU.
        slices: int32 ``[C+1, R, D]``, or of no steps (SEQ-007).
        states: int32 ``[C+1, 1 or 2, L, 2, R, G]``, or of no steps (GRAD-020).
    """


class Outputs(namedtuple("Outputs", "h b0")):
    """Where the top layer's ``h`` goes: int32 ``[C, B, H]``, or of no steps, from row ``b0`` on."""


class Counted(namedtuple("Counted", "gates pushed tops")):
    """What is counted, int64.

    Attributes:
        gates: ``[L, 1025]`` or ``[L, 0]``.
        pushed: words that each layer pushed, ``[L]``.
        tops: words pushed up to the end of each step, ``[C]``, or none.
    """


class Factors(namedtuple("Factors", "pieces operands slopes")):
    """What the gradients of a chunk are made of, for a batch of B rows.

    Attributes:
        pieces: float32, flat: by piece ``[L, 2, C, B, G]``; see :mod:`.gru` and :mod:`.lstm_rows`.
        operands: float32, flat ``[L−1, C, B, H]``: inputs of the layers above the first.
        slopes: the same: their derivatives by the states below.
    """


class Operand(namedtuple("Operand", "values by_row rows pairs largest")):
    """The left operand of an exact product.

    Attributes:
        values: int16, flat.
        by_row: from one of its rows to the next.
        rows: how many.
        pairs: half of its columns.
        largest: its largest magnitude.
    """


class Factor(namedtuple("Factor", "w norm columns")):
    """The right operand: packed weights, their norm, and columns of the result."""


class Inputs(namedtuple("Inputs", "sums wide bound first bias shift")):
    """Sums of a layer's input with all gates, or room for them.

    Attributes:
        sums: int32, flat, rows of whole panels; not shifted and without biases.
        wide: int64, rows of ``columns``: shifted and with biases, where that does not fit int32.
        bound: the largest magnitude of what is to be added, more than int32 if they are wide.
        first: the first of the step's rows.
        bias: int32 ``[columns]``.
        shift: their left shift.
    """


class Sums(namedtuple("Sums", "recurrent width inputs inputs_at across bias bias_at left shift")):
    """The sums of some gates in all rows.

    Attributes:
        recurrent: int32, flat.
        width: its row length.
        inputs: int32, flat; row b's begin at ``inputs_at + b·across``.
        inputs_at: see ``inputs``.
        across: see ``inputs``.
        bias: int32, flat.
        bias_at: where the gates' begin.
        left: left shift of recurrent sums.
        shift: left shift of input sums.
    """


class Room(namedtuple("Room", "units by_row operand u z y r later")):
    """Room for one group in one step, R rows of G units.

    Attributes:
        units: G.
        by_row: row length of ``operand`` and ``u``, whole vectors.
        operand: int16, flat: the view (FMT-004).
        u: the same: that of RevGRU's candidate.
        z: int32, flat ``[R, G]``: forget gates.
        y: the same: RevLSTM's other ones; the sigmoids that RevGRU's are made of.
        r: the same: RevGRU's r.
        later: int16: words that wait, and a vector more.
    """


class GroupStep(namedtuple("GroupStep", "h c active depth words keep tally")):
    """One group in one step.

    Attributes:
        h: int32 ``[R, G]``, in place.
        c: the same for RevLSTM.
        active: uint8 ``[R]``: which rows have the step.
        depth: units of ``h`` that are sliced (MUL-005).
        words: see :class:`Kept`.
        keep: see :class:`Kept`.
        tally: see :class:`Kept`.
    """


class Back(namedtuple("Back", "old_h old_c recovers unit_h unit_view scale pieces base size")):
    """What taking one group back needs besides.

    Attributes:
        old_h: int32 ``[R, G]``, read where states are looked up, and for sliced units.
        old_c: the same.
        recovers: whether states are recovered, 1, or looked up, 0.
        unit_h: 2 to the minus fraction bits of states, float32.
        unit_view: the same of views.
        scale: of forget gates, m in GRAD-010.
        pieces: see :class:`Factors`.
        base: where the group begins in a piece.
        size: of a piece.
    """


class Pull(namedtuple("Pull", "group pieces base size ds at forgetting du dv")):
    """Carrying gradients back over one group's update.

    Attributes:
        group: 0 or 1.
        pieces: see :class:`Factors`.
        base: where the step begins in a piece.
        size: of a piece.
        ds: float32, flat, rows of N·G: gradients of pre-activations.
        at: where the step begins there.
        forgetting: whether ``h`` was multiplied.
        du: float32, flat, room for R times whole panels.
        dv: the same.
    """
