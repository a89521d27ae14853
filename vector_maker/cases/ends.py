"""Right requests at the ends of ranges, that ports written from the text got wrong unnoticed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from revrnn.config import Config
from revrnn.formats import Formats

from .draft import Arguments, Draft, Evaluate, f32, i16, i32, i64
from .requests import STILL, Contents, pushed, sequence, tiny

_MOST, _LEAST = 2**31 - 1, -(2**31)


def cases(evaluate: Evaluate) -> Iterator[Draft]:
    """Give the requests."""
    yield from _buffers()
    yield from _sequences()
    yield from _gradients()


def _buffers() -> Iterator[Draft]:
    restore = i32([]).reshape(1, 0)
    words = np.array([1, 2, 3], np.uint16)
    # The multiplication is undone beyond int32, and wraps.
    wide = pushed("stream", [[_MOST, _LEAST]], 1, [[32768] * 2], words=words, restore=restore)
    wide["z"] = i32([[1, 3]])
    yield Draft("revmul_inverse", wide, ("MUL-003", "GEN-006"))
    # What the heads held before the plane is forgotten.
    plane: Arguments = {"words": i64([[[77, 88]]]), "flags": np.ones(1, np.uint8)}
    held = pushed("wordlist", [[5, -5]], 512, [[400000000] * 2], restore=restore, **plane)
    yield Draft("revmul_inverse", held, ("BUF-023",))
    # Too wide by the residue alone, and just not.
    z = 1022
    n = (2**63 - 1) // z
    assert n * z < 2**63 <= n * z + z - 1
    flags: Arguments = {"words": i64([]).reshape(0, 1, 1), "flags": np.zeros(1, np.uint8)}
    for residue, error in (((2**63 - 1) % z, None), ((2**63 - 1) % z + 1, "E_RANGE")):
        last = pushed("wordlist", [[residue]], z, [[n]], restore=restore, **flags)
        yield Draft("revmul_inverse", last, ("BUF-024", "MUL-003"), (), error)
    yield Draft("view", _view(np.ones((1, 1, 1, 1, 1))), ("EVAL-002",))


def _view(h: Any) -> Arguments:
    return {"h": i32(h), "state_bits": 23, "view_bits": 12}


def _sequences() -> Iterator[Draft]:
    # Slices of a step that the row does not have.
    store: Arguments = {"words": np.zeros(0, np.uint16), "flags": np.zeros(0, np.uint8)}
    masked = tiny(mask=np.zeros((1, 1), np.bool_), slices=i32([77, 88]).reshape(2, 1, 1), **store)
    yield Draft("sequence_reverse", masked, ("SEQ-007", "SEQ-002"))
    keeping = Config("revlstm", 1, 2, forgetting=False)
    last = sequence("the last h", keeping, [[1]], STILL)
    last |= {"h": i32([[[_MOST, _MOST]]]), "c": i32([[[2**23, 2**23]]])}
    yield Draft("sequence_forward", last, ("MUL-006", "CELL-031"), ("wraps_zero",))
    # No update to the least cell state there is.
    least = sequence("the least c", keeping, [[1]], STILL)
    least |= {"c": i32([[[_LEAST, _LEAST]]]), "bias_l0": i32([_LEAST, 0, 0] * 2)}
    yield Draft("sequence_forward", least, ("ACT-002", "CELL-031"))
    bits = sequence("bits of no head", Config("revgru", 1, 2, buffer="bigint"), np.zeros((0, 1)))
    yield Draft("sequence_storage", bits, ("ACC-003", "BUF-010"))
    # Which caps there are where no gate forgets.
    capped = Config("revlstm", 1, 2, forgetting=False, z_max=600)
    yield Draft("sequence_forward", sequence("a cap of no gate", capped, [[1]]), ("FMT-005",))


def _gradients() -> Iterator[Draft]:
    """Give saturation that begins, or does not, at one number."""
    still = Contents(weights=900, inputs=0, bias=2**20, state=0)

    def case(name: str, config: Config, *rules: str, **changes: Any) -> Draft:
        args = sequence(name, config, [[1]], still) | changes
        shape = args["h"].shape
        args |= {"grad_outputs": f32(np.ones((1, 1, config.hidden_size))), "states": "reversed"}
        args |= {f"grad_{n}": f32(np.ones(shape)) for n in ("h", "c")[: config.state_arrays]}
        return Draft("sequence_gradient", args, ("GRAD-012", *rules))

    two, one = Config("revgru", 1, 2, 2), Config("revgru", 1, 2)
    full = i32([[[_MOST, _MOST]], [[5, 5]]])
    yield case("a full layer below", two, "GRAD-002", h=full)
    for h in (32513 * 2048, 32512 * 2048 + 1100, -32512 * 2048 - 900):
        yield case("the end of a view", one, "GRAD-002", h=i32([[[h, h]]]))
    seen = i32([[[4000 * 2048] * 2], [[5, 5]]])
    gains = i32([33293, 33292]).reshape(1, 1, 1, 2)
    open_wide = i32([2**30, 0, 0] * 2)  # the layer below stays as it is
    ends = {"h": seen, "gains": gains, "bias_l0": open_wide}
    yield case("the end of a gain", two, "GRAD-016", "SEQ-012", **ends)
    yield case("the end of x", one, "GRAD-002", x=i16([[[32512]]]))
    weights = sequence("the end of a weight", one, [[1]], still)["weight_ih_l0"]
    full_weights = np.full_like(weights, 32512)
    yield case("the end of a weight", one, "GRAD-003", weight_ih_l0=full_weights, x=i16([[[3]]]))
    narrow = Config("revgru", 2, 2, formats=Formats(operand_bits=13, weight_bits=13))
    low = np.full((6, 2), -32512, np.int16)
    yield case(
        "the end of a bias",
        narrow,
        "GRAD-003",
        weight_ih_l0=low,
        x=i16([[[32512, 32512]]]),
        bias_l0=i32([_MOST] * 6),
    )
    keeping = Config("revgru", 1, 2, forgetting=False)
    bias = i32([-(2**26), 0, 2**23] * 2)
    yield case("a wrap", keeping, "GRAD-001", h=i32([[[_MOST, _MOST]]]), bias_l0=bias)
