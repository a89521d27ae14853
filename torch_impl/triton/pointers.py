"""The arrays that kernels work in, by name: ``a`` in every kernel."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Pointers(NamedTuple):
    """The arrays that kernels work in, with the weights of the first layer or of all above it.

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

    wh: Tensor
    wl: Tensor
    w: Tensor
    w_in: Tensor
    part: Tensor
    table: Tensor
    mask: Tensor
    gains: Tensor
    high: Tensor
    low: Tensor
    sigmas: Tensor
    aside: Tensor
    h: Tensor
    c: Tensor
    heads: Tensor
    stage: Tensor
    counts: Tensor
    words: Tensor
    tops: Tensor
    wraps: Tensor
    meeting: Tensor
    outputs: Tensor
    restore: Tensor
    past_h: Tensor
    past_c: Tensor
    tape: Tensor
    lower: Tensor
    dh: Tensor
    dc: Tensor
    ds: Tensor
    through: Tensor
    given: Tensor
