"""The arrays that kernels work in, by name: ``a`` in every kernel."""

from __future__ import annotations

from typing import Any, NamedTuple


class Pointers(NamedTuple):
    """The arrays that kernels work in, with the weights of the first layer or of all above it.

    Triton finds them by their annotations.

    Attributes:
        wh: high bytes of the weights; ``wl`` low bytes.
        w: recurrent weights, float32; ``w_in`` input weights.
        part: the first layer's input parts, int64; of layers above their biases.
        sigmas: sigmoids of forget gates, handed from kernel to kernel.
        aside: RevGRU's reset gates, or RevLSTM's changes of ``c``, likewise.
        meeting: int32 ``[1]``, how many programs have come to a barrier.
        dh: gradients of ``h``; ``dc`` of ``c``; ``ds`` of pre-activations; ``given`` of outputs.
        through: RevGRU's gradients of views through ``u``.
    """

    wh: Any
    wl: Any
    w: Any
    w_in: Any
    part: Any
    table: Any
    mask: Any
    gains: Any
    high: Any
    low: Any
    sigmas: Any
    aside: Any
    h: Any
    c: Any
    heads: Any
    stage: Any
    counts: Any
    words: Any
    tops: Any
    wraps: Any
    meeting: Any
    outputs: Any
    restore: Any
    past_h: Any
    past_c: Any
    tape: Any
    lower: Any
    dh: Any
    dc: Any
    ds: Any
    through: Any
    given: Any
