"""Handlers of the native kernels as XLA calls them, without XLA: the oracle's answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from handler_calls import ROWS, STEPS, UNWRITTEN, Stack, by_layer, drawn

from revrnn import Config
from revrnn.evaluation import Implementation

STACKS = {
    "revgru": Config("revgru", 3, 10, num_layers=3, max_forget_bits=5),
    "revlstm": Config("revlstm", 3, 6, num_layers=2, max_forget_bits=3, slice_size=2),
    "plain": Config("revlstm", 70, 4, forgetting=False),
}
CUTS = ((0, 2), (2, STEPS))
stacks = pytest.mark.parametrize("name", STACKS)
shares = pytest.mark.parametrize("count", [1, 3])


def assert_at_the_start(stack: Stack) -> None:
    """Check that a way back has ended where the sequence began (SEQ-009)."""
    np.testing.assert_array_equal(by_layer(stack.h), stack.given["h"])
    if stack.config.has_cell_state:
        np.testing.assert_array_equal(by_layer(stack.c), stack.given["c"])
    if stack.config.forgetting:
        np.testing.assert_array_equal(stack.heads, stack.given["heads"])
    assert (stack.length[0], stack.parts[0, 0]) == (0, 0)


@pytest.mark.rule("BUF-005", "BUF-036", "SEQ-007", "SEQ-012", "GEN-001")
@stacks
@shares
def test_chunks_forward(oracle: Implementation, name: str, count: int) -> None:
    """By one share, in the order of words that is due, and by three of unequal sizes."""
    config = STACKS[name]
    given = {k: v for k, v in drawn(config).items() if not k.startswith("grad_")}
    wanted, active = oracle.evaluate("sequence_forward", given), given["mask"].sum()
    stack = Stack(config, drawn(config), count)
    told = [stack.make(stack.to_advance(*cut, before=True)) for cut in CUTS]
    np.testing.assert_array_equal(np.concatenate([t["outputs"] for t in told]), wanted["outputs"])
    np.testing.assert_array_equal(by_layer(stack.h), wanted["h"])
    np.testing.assert_array_equal(told[1]["states"][-1, 0], stack.h)
    assert sum(t["wraps"][0] for t in told) == wanted["wraps"]
    assert (wanted["wraps"] > 0) is config.can_wrap
    if config.has_cell_state:
        np.testing.assert_array_equal(by_layer(stack.c), wanted["c"])
        np.testing.assert_array_equal(told[1]["states"][-1, 1], stack.c)
    if config.slice_size:
        slices = np.concatenate([told[0]["slices"], told[1]["slices"][1:]])
        np.testing.assert_array_equal(slices, wanted["slices"])
    length = len(wanted["words"]) if config.forgetting else 0
    assert stack.length[0] == length
    assert (stack.words[length:] == UNWRITTEN).all()
    tops = [int(t["tops"][-1]) for t in told]
    assert sum(tops) == length
    assert stack.parts.sum(1).tolist() == [2, *tops, *[0] * (STEPS - 1)]
    if config.forgetting:
        np.testing.assert_array_equal(stack.heads, wanted["heads"])
        assert stack.parts[1:3].any(0).all()  # every share has pushed
        pushed = stack.words[:length].view(np.uint16)
        assert sorted(pushed) == sorted(wanted["words"])
        assert count > 1 or pushed.tolist() == wanted["words"].tolist()
        gates = config.operations_per_step * config.group_size - config.slice_size
        assert sum(t["counts"].sum() for t in told) == active * gates


@pytest.mark.rule("SEQ-009", "GRAD-020", "GRAD-012", "GRAD-013", "GEN-001")
@stacks
@shares
@pytest.mark.parametrize("before", [False, True], ids=["recovered", "looked up"])
def test_chunks_back(oracle: Implementation, name: str, count: int, before: bool) -> None:
    """States, outputs and gradients, from words and from states that were kept."""
    config = STACKS[name]
    given = drawn(config)
    wanted = oracle.evaluate("sequence_gradient", given | {"states": "reversed"})
    stack, dx = Stack(config, given, count), list[Any]()
    told = [stack.make(stack.to_advance(*cut, before)) for cut in CUTS]
    for cut, there in zip(CUTS[::-1], told[::-1], strict=True):
        back = stack.make(stack.to_recover(*cut, there))
        np.testing.assert_array_equal(back["outputs"], there["outputs"])
        dx.insert(0, stack.make(stack.to_pull(*cut, back))["x"])
    if not before:
        assert_at_the_start(stack)
    d = stack.d | {"h": by_layer(stack.d["h"]), "c": by_layer(stack.d["c"])}
    d["x"] = np.concatenate(dx)
    for key, value in wanted.items():
        got, scale = d[key.removeprefix("grad_")], np.abs(value).max() + 1e-6
        assert np.abs(got - value).max() <= 1e-5 * scale, key


@pytest.mark.rule("GRAD-020")
@stacks
def test_gradients_of_the_last_state_alone(name: str) -> None:
    """Without gradients of outputs they are those of outputs that count for nothing."""
    config = STACKS[name]
    given, made = drawn(config), []
    given["grad_outputs"][:] = 0
    for none in (False, True):
        stack = Stack(config, given, 1)
        there = stack.make(stack.to_advance(0, STEPS))
        call = stack.to_pull(0, STEPS, stack.make(stack.to_recover(0, STEPS, there)))
        if none:
            call.arguments[5] = given["grad_outputs"][:0]
        made.append(stack.make(call) | stack.d)
    for key, value in made[0].items():
        assert value.any() or not value.size
        np.testing.assert_array_equal(made[1][key], value)


@pytest.mark.rule("BUF-035")
@shares
def test_words_of_each_step(count: int) -> None:
    """How many there are up to the end of each step of a chunk."""
    config = STACKS["revlstm"]
    given, lengths, told = drawn(config), list[int](), []
    stepwise, whole = Stack(config, given, count), Stack(config, given, count)
    for t in range(STEPS):
        told.append(stepwise.make(stepwise.to_advance(t, t + 1)))
        lengths.append(int(stepwise.length[0]))
    assert whole.make(whole.to_advance(0, STEPS))["tops"].tolist() == lengths
    for t in reversed(range(STEPS)):
        stepwise.make(stepwise.to_recover(t, t + 1, told[t]))
    assert_at_the_start(stepwise)


@pytest.mark.rule("SEQ-013", "SEQ-009", "BUF-036")
@stacks
@shares
def test_rows_that_start_anew(oracle: Implementation, name: str, count: int) -> None:
    """Each is as if its sequence began there; what was before is back at the end."""
    config, resets = STACKS[name], ((2, 1), (4, 3))
    given = drawn(config)
    stack = Stack(config, given, count)
    stack.aside_at = np.full((STEPS, ROWS), -1, np.int32)
    for place, (first, row) in enumerate(resets):
        stack.aside_at[first, row] = place
        given["grad_outputs"][:first, row] = 0
    there = stack.make(stack.to_advance(0, STEPS))
    params = {n: given[n] for n in ("config", *config.parameter_shapes())}
    zero = {n: np.zeros_like(given[n]) for n in ("h", "c") if n in given}
    for first, row in resets:
        inputs = {n: given[n] for n in ("x", "mask", "gains") if n in given}
        before: dict[str, Any] = {n: given[n] for n in ("h", "c", "heads") if n in given}
        before |= params | {n: v[:first] for n, v in inputs.items()}
        heads = {
            n: v for n, v in oracle.evaluate("sequence_forward", before).items() if n == "heads"
        }
        later = params | zero | heads | {n: v[first:] for n, v in inputs.items()}
        anew = oracle.evaluate("sequence_forward", later)
        np.testing.assert_array_equal(there["outputs"][first:, row], anew["outputs"][:, row])
    assert (stack.aside[0][:2] != UNWRITTEN).any()
    assert (stack.aside[0][2:] == UNWRITTEN).all()
    back = stack.make(stack.to_recover(0, STEPS, there))
    np.testing.assert_array_equal(back["outputs"], there["outputs"])
    assert_at_the_start(stack)
    stack.make(stack.to_pull(0, STEPS, back))
    assert not stack.d["h"][:, :, (1, 3)].any()
    assert stack.d["h"][:, :, (0, 2)].any()


@pytest.mark.rule("BUF-035", "ERR-001")
@shares
def test_room_for_fewer_words_than_are_pushed(count: int) -> None:
    """Those that find none are let go, and counted."""
    config = STACKS["revlstm"]
    given = drawn(config)
    whole = Stack(config, given, count)
    for cut in CUTS:
        told = whole.make(whole.to_advance(*cut))
    room = int(whole.length[0]) - 3  # of those of the second chunk
    short = Stack(config, given, count, room)
    for cut in CUTS:
        short.make(short.to_advance(*cut))
    assert short.length[0] == whole.length[0]
    np.testing.assert_array_equal(short.words, whole.words[:room])
    np.testing.assert_array_equal(short.parts, whole.parts)
    short.make(short.to_recover(*CUTS[1], told))  # with zeros in their place


@pytest.mark.rule("BUF-034")
@shares
@pytest.mark.parametrize("missing", [1, 9])
def test_fewer_words_than_are_popped(count: int, missing: int) -> None:
    """Are told: there are −1 left."""
    config = STACKS["revlstm"]
    stack = Stack(config, drawn(config), count)
    told = stack.make(stack.to_advance(0, STEPS))
    stack.length[0] -= missing
    stack.make(stack.to_recover(0, STEPS, told))
    assert stack.length[0] == -1


@pytest.mark.rule("BUF-005")
@stacks
def test_one_share_needs_no_note(name: str) -> None:
    """All words on the stack may be its own."""
    stack = Stack(STACKS[name], drawn(STACKS[name]), 1)
    stack.parts = np.zeros((0, 1), np.int32)
    told = [stack.make(stack.to_advance(*cut)) for cut in CUTS]
    for cut, there in zip(CUTS[::-1], told[::-1], strict=True):
        stack.make(stack.to_recover(*cut, there))
    stack.parts = np.zeros((1, 1), np.int32)
    assert_at_the_start(stack)


# What a note says of how many chunks there are, and how many more words of each share in the last.
NOTES = {
    "no chunk": (0, (0, 0, 0)),
    "too many chunks": (STEPS + 2, (0, 0, 0)),
    "fewer than none": (-1, (0, 0, 0)),
    "too many of the last": (1, (0, 0, 1)),
    "more than there are": (1, (0, 0, 10**6)),
    "less than none": (1, (0, -(10**6), 0)),
}


@pytest.mark.rule("BUF-034", "BUF-036")
@pytest.mark.parametrize("note", NOTES)
def test_notes_that_are_wrong(note: str) -> None:
    """Are told as words that are missing, whatever they say."""
    config = STACKS["revlstm"]
    stack = Stack(config, drawn(config), 3)
    told = stack.make(stack.to_advance(0, STEPS))
    stack.parts[0, 0], more = NOTES[note]
    stack.parts[1] += more
    stack.make(stack.to_recover(0, STEPS, told))
    assert stack.length[0] == -1


def test_a_note_of_more_words_below_than_there_are() -> None:
    """All that is left is the first share's, as it is due."""
    config = STACKS["revlstm"]
    stack = Stack(config, drawn(config), 3)
    told = stack.make(stack.to_advance(0, STEPS))
    stack.parts[1, 0] += 1
    stack.make(stack.to_recover(0, STEPS, told))
    assert_at_the_start(stack)


@pytest.mark.rule("BUF-036")
def test_a_note_of_words_of_the_chunk_before() -> None:
    """They are left over, which is told however few shares there are."""
    config = STACKS["revlstm"]
    stack = Stack(config, drawn(config), 2)
    _, there = [stack.make(stack.to_advance(*cut)) for cut in CUTS]
    stack.parts[2, 0] += 1
    stack.make(stack.to_recover(*CUTS[1], there))
    assert stack.length[0] == -1


def of_many_words(count: int, hidden: int = 4, layers: int = 4) -> Stack:
    """Return a stack all of whose units forget all that they can, in full heads."""
    config = Config("revlstm", 3, hidden, num_layers=layers, max_forget_bits=None)
    given = drawn(config)
    given["mask"][:], given["heads"][:] = True, 2**31 - 1
    for k in range(config.num_layers):
        given[f"bias_l{k}"][:] = -(2**30)
    return Stack(config, given, count, room=2000)


@pytest.mark.rule("BUF-031", "BUF-035")
@shares
@pytest.mark.parametrize("sizes", [(4, 4), (18, 1)], ids=str)
def test_as_many_words_as_there_can_be(
    oracle: Implementation, sizes: tuple[int, int], count: int
) -> None:
    """More than half of what a chunk has room for."""
    stack, cuts = of_many_words(count, *sizes), ((0, STEPS - 1), (STEPS - 1, STEPS))
    given = {k: v for k, v in stack.given.items() if not k.startswith("grad_")}
    wanted = oracle.evaluate("sequence_forward", given)["words"]
    assert len(wanted) * 2 > STEPS * stack.config.operations_per_step * stack.heads.size
    told = [stack.make(stack.to_advance(*cut)) for cut in cuts]
    assert stack.length[0] == len(wanted)
    assert sorted(stack.words[: len(wanted)].view(np.uint16)) == sorted(wanted)
    for cut, there in zip(cuts[::-1], told[::-1], strict=True):
        stack.make(stack.to_recover(*cut, there))
    assert_at_the_start(stack)


@pytest.mark.rule("BUF-034")
def test_a_note_of_more_words_than_a_chunk_has_room_for() -> None:
    stack = of_many_words(3)
    stack.make(stack.to_advance(0, STEPS - 1))
    told = stack.make(stack.to_advance(STEPS - 1, STEPS))
    stack.parts[2] = (0, 0, 10**6)
    stack.make(stack.to_recover(STEPS - 1, STEPS, told))
    assert stack.length[0] == -1
