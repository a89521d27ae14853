"""What a configuration comes to in numbers, as compiled calls want it."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from revrnn.config import Config
from revrnn.tanh_table import tanh_table

from .arithmetic import NUMBERS
from .compiling import Array
from .records import Numbers


def numbers(config: Config) -> Numbers:
    """Return numbers in the places that :mod:`.arithmetic` names, and the table of tanh."""
    formats, n = config.formats, config.max_forget_bits
    plan = np.zeros(NUMBERS, np.int64)
    of_gate = (1, 2**4, 5) if n is None else (2**n - 1, 2**15 + 2 ** (4 + n), 5 + n)
    plan[:] = (
        formats.sum_bits,
        formats.state_bits,
        config.view_bits,
        *of_gate,
        config.resolved_z_max,
        formats.operand_bits - config.layer_input_bits(0),
        formats.operand_bits - config.view_bits,
        formats.operand_bits - config.view_bits,
        config.slice_size,
        config.resolved_p_max,
    )
    return Numbers(plan, packed_table())


def forget_scale(config: Config) -> Any:
    """Return m of GRAD-010, float32."""
    n = config.max_forget_bits
    return np.float32(1.0 if n is None else 1.0 - 2.0**-n)


@cache
def packed_table() -> Array:
    """Return ``TANH[i]·512 + (TANH[i+1] − TANH[i])``, int32 ``[1025]``: one look-up gives both."""
    table = tanh_table()
    return (table << 9) + np.diff(table, append=table[-1:])  # at most 256
