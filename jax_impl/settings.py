"""How a sequence is gone through: what is static of a call, checked."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from revrnn.config import Config
from revrnn.errors import RevRNNError, check_one_of, shown
from revrnn.kinds import is_int
from revrnn.plan import CHUNK_SIZE

from .engines import Method, method_of
from .forks import check_process
from .state import check_config
from .status import is_concrete, kind_of


class Settings(NamedTuple):
    """How a sequence is gone through: static. No state depends on more than ``config``.

    Attributes:
        config: the stack.
        method: engine and product.
        chunk: steps handled together.
        piece: whole chunks after each of which the exact state is kept, and the buffer only of one
            such piece; ``None`` for one piece.
        states: ``"reversed"``, or ``"stored"`` to keep all states (GRAD-020).
        capacity: words (for ``wordlist`` planes) to set aside for a piece; ``None`` for as many as
            can ever be needed (BUF-035).
        reset_capacity: replaced rows to set aside for a piece.
        masked: whether rows may have different steps.
    """

    config: Config
    method: Method
    chunk: int = CHUNK_SIZE
    piece: int | None = None
    states: str = "reversed"
    capacity: int | None = None
    reset_capacity: int = 0
    masked: bool = True


def settings_of(
    config: Config,
    chunk_size: int,
    checkpoint_every: int | None = None,
    capacity: int | None = None,
    reset_capacity: int | None = None,
    resets: jax.Array | None = None,
    mask: jax.Array | None = None,
    states: str = "reversed",
) -> Settings:
    """Return checked settings; without ``reset_capacity`` resets are counted where they can be."""
    check_process()
    check_config(config)
    check_one_of("states", states, ("reversed", "stored"))
    chunk = whole_number("chunk_size", chunk_size)
    sizes = {
        "checkpoint_every": checkpoint_every,
        "capacity": capacity,
        "reset_capacity": reset_capacity,
    }
    every, words, rows = (v if v is None else whole_number(n, v) for n, v in sizes.items())
    piece = None if every is None else -(-every // chunk) * chunk
    if resets is not None and str(getattr(resets, "dtype", "")) != "bool":
        raise RevRNNError("E_DTYPE", "resets", kind_of(resets), "bool")
    if rows is None and isinstance(resets, (jax.Array, np.ndarray)) and is_concrete(resets):
        # A power of two, so that other numbers of resets find the same program.
        rows = 1 << int(np.count_nonzero(np.asarray(resets))).bit_length()
    masked, method = mask is not None, method_of(config)
    return Settings(config, method, chunk, piece, states, words, rows or 0, masked)


def in_even_chunks(settings: Settings, steps: int) -> Settings:
    """Return settings with smaller chunks, at least half as long, if the steps then leave no rest.

    A rest is a second program of the same kind, which takes as long to compile. Whether there are
    pieces does not matter, so that gradients are the same sums; stores of a piece still suffice.
    """
    chunk, piece = settings.chunk, settings.piece
    if steps <= chunk:
        return settings
    even = next((n for n in range(chunk, chunk // 2, -1) if steps % n == 0), chunk)
    return settings._replace(chunk=even, piece=None if piece is None else piece // even * even)


def whole_number(name: str, value: object) -> int:
    """Return a size as Python's whole number, or raise ``E_ARGUMENT``."""
    if isinstance(value, jax.core.Tracer):
        allowed = "a whole number known while tracing: a static argument of jax.jit"
        raise RevRNNError("E_ARGUMENT", name, "a traced value", allowed)
    if not is_int(value) or not 1 <= value < 2**30:
        raise RevRNNError("E_ARGUMENT", name, shown(value), "a whole number, 1 … 2^30 − 1")
    return int(value)


def check_flag(name: str, value: object) -> bool:
    """Return a flag, or raise ``E_ARGUMENT``."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, jax.core.Tracer):
        raise RevRNNError("E_ARGUMENT", name, "a traced value", "True, False, known while tracing")
    raise RevRNNError("E_ARGUMENT", name, shown(value), "True, False")
