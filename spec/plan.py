"""What a sequence will cost to remember, before it is run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

from .config import Config, check_config
from .errors import RevRNNError, shown
from .kinds import is_int

# Steps that implementations handle together if nothing else is said, or nearly so many.
CHUNK_SIZE = 16


def even_chunks(steps: int) -> int:
    """Return how many steps to handle together so that chunks are nearly of one length.

    The number is near :data:`CHUNK_SIZE`. A short rest would cost nearly as much as a whole chunk.
    """
    return max(math.ceil(steps / max(round(steps / CHUNK_SIZE), 1)), 1)


@dataclass(frozen=True)
class Plan:
    """Bytes that a training step keeps in order to go back, above parameters and gradients.

    Attributes:
        steps: length of the sequence.
        batch_size: rows.
        bits: bits forgotten a unit and multiplication that the expected figures assume.
        buffer_worst: bytes of the buffer if every multiplication forgets as much as it may.
        buffer_expected: bytes of the buffer at ``bits``.
        slices: bytes of the slices (SEQ-007).
        chunk: bytes of one chunk's states, gates and gradients in work, roughly.
        plain: bytes of all states, as stored without reversal.
        checkpointing: bytes of the states that checkpointing with √T segments stores.
        crossover_steps: beyond this length checkpointing stores less than the buffer does at
            ``bits``; ``None`` if nothing is ever stored.
        checkpoint_every: the piece for which the hybrid stores least, or ``None`` where the buffer
            alone stores less.
        hybrid: bytes that the hybrid then stores: checkpoints, and the buffer of one piece.
    """

    steps: int
    batch_size: int
    bits: float
    buffer_worst: int
    buffer_expected: int
    slices: int
    chunk: int
    plain: int
    checkpointing: int
    crossover_steps: int | None
    checkpoint_every: int | None
    hybrid: int

    def __str__(self) -> str:
        """Return a table in megabytes."""
        rows = [
            ("all states, stored", self.plain),
            ("states of √T checkpoints", self.checkpointing),
            ("buffer, worst case", self.buffer_worst),
            (f"buffer, {self.bits:g} bit{'s' * (self.bits != 1)} forgotten", self.buffer_expected),
            ("slices", self.slices),
            ("one chunk in work", self.chunk),
        ]
        if self.checkpoint_every is not None:
            rows.append((f"checkpoints every {self.checkpoint_every} steps", self.hybrid))
        lines = [f"{name:34}{size / 1e6:12.3f} MB" for name, size in rows]
        if self.crossover_steps is not None:
            lines.append(f"checkpointing stores less beyond {self.crossover_steps} steps")
        return "\n".join(lines)


# No array has more numbers, no stack more layers; what asks for more is a slip.
_MOST_NUMBERS, _MOST_LAYERS = 2**36, 2**16
# What is planned: lengths that floats can count, and as many bits as say anything.
_MOST_COUNTED, _LEAST_BITS = 2**62, 1e-9


def check_size(name: str, size: object) -> int:
    """Return a whole number of at least 1, of Python or NumPy, or raise ``E_ARGUMENT``."""
    if not is_int(size) or size < 1:
        raise RevRNNError("E_ARGUMENT", name, shown(size), "a whole number, at least 1")
    return int(size)


def check_sizes(config: Config, batch_size: int = 1) -> None:
    """Raise before memory is asked for that no machine has.

    Args:
        config: a stack that is to be made.
        batch_size: rows of its states.

    Raises:
        RevRNNError: ``E_SHAPE`` for widths above 2^20 (PROD-002), ``E_ARGUMENT`` for others.
    """
    widths = ("input_size", "hidden_size")
    for name in widths:
        if getattr(config, name) > 2**20:
            raise RevRNNError("E_SHAPE", name, getattr(config, name), "at most 2^20")
    if config.num_layers > _MOST_LAYERS:
        raise RevRNNError("E_ARGUMENT", "num_layers", config.num_layers, f"at most {_MOST_LAYERS}")
    of_state = config.num_layers * config.hidden_size
    weights = of_state * config.num_gates * max(config.input_size, config.group_size)
    sizes = (("hidden_size", config.hidden_size, weights), ("batch_size", batch_size, of_state))
    for name, given, numbers in sizes:
        numbers *= batch_size if name == "batch_size" else 1
        if numbers > _MOST_NUMBERS:
            allowed = "less: no array can have more than 2^36 numbers"
            raise RevRNNError("E_ARGUMENT", name, given, allowed)


def check_shape(name: str, shape: Sequence[int]) -> None:
    """Raise ``E_SHAPE`` for an array, expanded from a smaller one, that no memory can hold.

    Args:
        name: the argument's name.
        shape: of the array.
    """
    if math.prod(shape) > _MOST_NUMBERS:
        raise RevRNNError("E_SHAPE", name, f"shape {list(shape)}", "at most 2^36 numbers")


def plan(
    config: Config,
    steps: int,
    batch_size: int,
    *,
    expected_bits: float | None = None,
    chunk_size: int | None = None,
) -> Plan:
    """Return what a sequence will cost to remember.

    Args:
        config: the stack (``module.config``).
        steps: length of the sequence.
        batch_size: rows.
        expected_bits: bits forgotten a unit and multiplication, if known from a report; by default
            half of the limit.
        chunk_size: steps handled together, by default 16 or nearly so (:func:`even_chunks`).

    Raises:
        RevRNNError: ``E_ARGUMENT`` for sizes below 1 or bits out of range.
    """
    check_config(config)
    steps, batch_size = check_size("steps", steps), check_size("batch_size", batch_size)
    for name, size in (("steps", steps), ("batch_size", batch_size)):
        if size > _MOST_COUNTED:
            raise RevRNNError("E_ARGUMENT", name, shown(size), "at most 2^62")
    chunk = check_size("chunk_size", even_chunks(steps) if chunk_size is None else chunk_size)
    chunk = min(chunk, steps)
    bits = config.forget_limit / 2 if expected_bits is None else expected_bits
    number: object = bits
    real = isinstance(number, Real) and not isinstance(number, bool)
    if not real or not 0 <= bits <= config.forget_limit:
        limit = f"0 … {config.forget_limit}"
        raise RevRNNError("E_ARGUMENT", "expected_bits", shown(expected_bits), limit)
    bits = bits if config.forgetting and bits > _LEAST_BITS else 0.0
    units = batch_size * config.group_size
    state = 4 * config.num_layers * config.state_arrays * batch_size * config.hidden_size
    heads = (4 if config.buffer == "stream" else 8) * units if config.forgetting else 0
    per_step = config.operations_per_step * units * bits / 8
    if config.buffer == "wordlist" and bits:
        # A word of 64 bits holds as many multiplications as fit 53 (BUF-021).
        per_step = config.operations_per_step * units * 8 / max(53 // max(bits, 1), 1)
    per_step += 4 * config.slice_size * batch_size
    checkpointing = 2 * math.ceil(math.sqrt(steps)) * state
    crossover = math.ceil((2 * state / per_step) ** 2) if per_step else None
    whole = math.ceil(per_step * steps) + heads
    every = None
    hybrid = whole
    if per_step:
        best = max(chunk, round(math.sqrt(steps * (state + heads) / per_step) / chunk) * chunk)
        size = math.ceil(steps / best) * (state + heads) + math.ceil(per_step * min(best, steps))
        if best < steps and size < whole:
            every, hybrid = best, size
    return Plan(
        steps,
        batch_size,
        bits,
        buffer_worst=_worst(config, steps, units) + heads,
        buffer_expected=math.ceil((per_step - 4 * config.slice_size * batch_size) * steps) + heads,
        slices=4 * config.slice_size * batch_size * (steps + 1),
        chunk=_chunk_bytes(config, batch_size, chunk),
        plain=state * steps,
        checkpointing=checkpointing,
        crossover_steps=crossover,
        checkpoint_every=every,
        hybrid=hybrid,
    )


def _worst(config: Config, steps: int, units: int) -> int:
    if not config.forgetting:
        return 0
    if config.buffer == "stream":
        return 2 * config.words_bound(steps) * units
    return 8 * config.planes_bound(steps) * units


def _chunk_bytes(config: Config, rows: int, steps: int) -> int:
    """Return roughly what a chunk needs: gates as integers, their slopes, gradients; inputs."""
    gates = config.num_layers * config.num_gates * config.hidden_size
    states = config.num_layers * config.hidden_size
    return 4 * rows * steps * (5 * gates + 6 * states + 3 * config.input_size)
