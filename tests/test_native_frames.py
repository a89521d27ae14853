"""What handlers of the native kernels refuse, say of themselves, and report: XLA's call frames."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from handler_calls import STEPS, UNWRITTEN, Call, Stack, drawn
from xla_frames import Error, Frame

from revrnn import Config

CONFIG = Config("revlstm", 2, 4, num_layers=2, forgetting=False)
REFUSED = Error(13, "revrnn: a call frame is not as its kernels expect it")
SHORT = Error(8, "revrnn: not enough memory for a chunk of steps")
# Pairs of an argument and the result that it becomes.
SAME = {
    "advance": [*((12 + n, n) for n in range(7)), (19, 13)],
    "recover": [(12, 0), (13, 1), (14, 2), (16, 3), (19, 8)],
    "pull": [(10, 0), (11, 1), *((13 + n, 3 + n) for n in range(6))],
}
kinds = pytest.mark.parametrize("kind", SAME)


def prepared(kind: str, count: int = 1) -> tuple[Stack, Call]:
    """Return a stack, and a call of a handler of a kind that would succeed."""
    stack = Stack(CONFIG, drawn(CONFIG), count)
    call = stack.to_advance(0, STEPS)
    if kind != "advance":
        call = stack.to_recover(0, STEPS, stack.make(call))
    if kind == "pull":
        call = stack.to_pull(0, STEPS, stack.make(call))
    return stack, call


def called(stack: Stack, call: Call, frame: Frame) -> Any:
    """Call a handler, and return its error; before one nothing may be written."""
    before = [array.copy() for array in call.results]
    error = frame.call(stack.address(call.kind))
    if error is not None:
        for was, array in zip(before, call.results, strict=True):
            np.testing.assert_array_equal(was, array)
    return error


@kinds
@pytest.mark.parametrize("longer", [0, 8])
def test_a_frame_as_expected(kind: str, longer: int) -> None:
    """A newer XLA's structures may be longer; an older one's frames end with the attributes."""
    stack, call = prepared(kind)
    frame = Frame(call.arguments, call.results)
    frame.itself.struct_size = 168 + longer
    for part in (frame.itself.arguments, frame.itself.results, *frame.given, *frame.made):
        part.struct_size += longer
    assert called(stack, call, frame) is None


@kinds
def test_frames_of_an_older_interface(kind: str) -> None:
    """Structures that are too short to have what is read."""
    stack, call = prepared(kind)
    for name in ("itself", "arguments", "results", "given", "made"):
        for n in (0, -1):
            frame = Frame(call.arguments, call.results)
            whole, buffers = frame.itself, {"given": frame.given, "made": frame.made}
            part = buffers[name][n] if name in buffers else getattr(whole, name, whole)
            part.struct_size = {"itself": 167}.get(name, 47 if name in buffers else 39)
            assert called(stack, call, frame) == REFUSED, name


@kinds
def test_each_array_is_looked_at(kind: str) -> None:
    """Its type, the number of its axes, and what it is to have in common with a result."""
    stack, call = prepared(kind)
    for side in ("given", "made"):
        for n in range(len(getattr(Frame(call.arguments, call.results), side))):
            for field in ("dtype", "rank"):
                for by in (1, -1):
                    frame = Frame(call.arguments, call.results)
                    buffer = getattr(frame, side)[n]
                    setattr(buffer, field, getattr(buffer, field) + by)
                    assert called(stack, call, frame) == REFUSED, (side, n, field)


@kinds
def test_numbers_of_arrays(kind: str) -> None:
    """One more or one fewer, and of a gradient those of a layer more or fewer."""
    stack, call = prepared(kind)
    more = [np.zeros(axes, np.float32) for axes in ((1, 1), (1, 1), 1)]
    for given, made in ((1, 0), (0, 1), (-1, 0), (0, -1), (1, 1), (-1, -1), (3, 3), (-3, -3)):
        arguments, results = list(call.arguments), list(call.results)
        for arrays, by in ((arguments, given), (results, made)):
            arrays += more[: max(by, 0)]
            del arrays[len(arrays) + min(by, 0) :]
        other = call._replace(results=results)
        assert called(stack, other, Frame(arguments, results)) == REFUSED, (given, made)


@kinds
def test_what_is_changed_in_place(kind: str) -> None:
    """A result in another place, or of another size, than the argument that it becomes."""
    stack, call = prepared(kind)
    for given, made in SAME[kind]:
        same = call.arguments[given]
        assert same is call.results[made]
        if same.size:
            results = list(call.results)
            results[made] = same.copy()
            other = call._replace(results=results)
            assert called(stack, other, Frame(call.arguments, results)) == REFUSED, made
        results = list(call.results)
        results[made] = np.zeros((2, *same.shape[1:]) if same.ndim else 2, same.dtype)
        if results[made].size != same.size:
            other = call._replace(results=results)
            assert called(stack, other, Frame(call.arguments, results)) == REFUSED, made
    nowhere = Frame(call.arguments, call.results)
    for n, array in enumerate(call.results):
        if not array.size:  # where that is does not matter
            nowhere.made[n].data = 8
    assert called(stack, call, nowhere) is None


@pytest.mark.parametrize(
    ("version", "answer"), [((0, 1), (0, 1)), ((0, 3), (0, 3)), ((1, 2), (0, 0)), (None, (0, 1))]
)
def test_the_version_that_a_handler_speaks(version: Any, answer: tuple[int, int]) -> None:
    """That of who asks, if its major number is 0; 0.0, which is refused, for others."""
    stack, _ = prepared("advance")
    frame = Frame([], [])
    if version is None:  # JAX 0.8 does not say
        frame.itself.api = None
    else:
        frame.api.version.major, frame.api.version.minor = version
    told = frame.metadata(stack.address("advance"))
    assert (told.version.major, told.version.minor) == answer
    assert (told.traits, told.state_type) == (0, 0)


def test_extensions_of_other_kinds() -> None:
    """No question is answered, and the call is looked at as any."""
    stack, call = prepared("advance")
    frame = Frame(call.arguments, call.results)
    other = bytes(frame.metadata(stack.address("advance"), kind=2))
    assert set(other) == {0x5A}
    assert (call.told["outputs"] != UNWRITTEN).all()


def lengthen(frame: Frame, buffer: Any, axis: int, length: int) -> None:
    """Let a buffer say that an axis is so long."""
    (ctypes.c_int64 * int(buffer.rank)).from_address(buffer.dims)[axis] = length


# Which buffer of which kind is said to be so long, such that there is no room for all words of a
# chunk, for what a share has of its own, and for gradients.
TOO_LONG = {
    "all words": ("advance", "given", 9, 0, 2**56),
    "words on the way back": ("recover", "given", 9, 0, 2**56),
    "own slices": ("advance", "made", 8, 2, 2**48),
    "own slices on the way back": ("recover", "given", 20, 2, 2**48),
    "gradients": ("pull", "given", 4, 0, 2**48),
}


@pytest.mark.parametrize("what", TOO_LONG)
def test_memory_that_is_short(what: str) -> None:
    """For a chunk or for one of its shares."""
    kind, side, n, axis, length = TOO_LONG[what]
    stack, call = prepared(kind, count=3)
    frame = Frame(call.arguments, call.results)
    buffer = getattr(frame, side)[n]
    lengthen(frame, buffer, axis, length)
    if "slices" in what:
        lengthen(frame, buffer, 0, STEPS + 1)
    assert frame.call(stack.address(kind)) == SHORT
