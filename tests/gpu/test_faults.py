"""Faults put into kernels by hand: each must be seen by the small sequences."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from small import JAX, PERSISTENT

import revrnn.gpu as kernels
from revrnn.jax_impl import triton as engine_of_jax
from revrnn.torch_impl import triton as engine_of_torch

SMALL = Path(__file__).with_name("small.py")


class Fault(NamedTuple):
    """A text of a kernel, what it becomes, and the setup and engine that show it."""

    file: str
    old: str
    new: str
    cell: str
    setup: int
    engine: str = "triton"


def no_barrier(cell: str, call: str, indent: int) -> Fault:
    """Leave out the barrier after what ends with ``call``."""
    barrier = " " * indent + "turn = meet(a, turn)\n"
    return Fault("persistent.py", f"{call}\n{barrier}", f"{call}\n", cell, 0, PERSISTENT)


FAULTS = {
    "wrong shift: bytes weigh 2^7": Fault(
        "arithmetic.py", "mid.to(tl.int64) << 8", "mid.to(tl.int64) << 7", "revgru", 2
    ),
    "a byte product is left out": Fault(
        "arithmetic.py",
        "    mid = tl.dot(a_l, w_h, acc=mid, out_dtype=tl.int32)\n",
        "",
        "revgru",
        2,
    ),
    "low bytes unsigned": Fault(
        "arithmetic.py",
        "(a - (h << 8)).to(tl.int8)",
        "((a >> 1) - (h << 7)).to(tl.int8)",
        "revgru",
        2,
    ),
    "rounding of a shift left out": Fault(
        "arithmetic.py", "r = ((v >> (BITS - 1)) + 1) >> 1", "r = v >> BITS", "revgru", 2
    ),
    "floor towards zero": Fault("arithmetic.py", "tl.where(q * z > p, q - 1, q)", "q", "revgru", 0),
    "off by one in compaction": Fault(
        "words.py",
        "tl.store(into + to + lane, word",
        "tl.store(into + to + lane + 1, word",
        "revgru",
        0,
    ),
    "off by one where a word is taken": Fault(
        "words.py",
        "tl.cumsum(short.to(tl.int32), 1) - 1",
        "tl.cumsum(short.to(tl.int32), 1)",
        "revgru",
        0,
    ),
    "other rows' words are not counted": Fault(
        "words.py",
        "base += tl.sum(tl.where(flat < first_row * K.NT, all_counts, 0))\n",
        "\n",
        "revgru",
        0,
    ),
    "other tiles' words are not counted": Fault(
        "words.py",
        "tl.where(tiles[None, :] < tile, own",
        "tl.where(tiles[None, :] < 0, own",
        "revgru",
        0,
    ),
    "missing phase: heads are not refilled": Fault(
        "order.py", "REFILL=self.popping", "REFILL=False", "revgru", 0
    ),
    "missing phase: c is not taken back": Fault(
        "order.py",
        "if self.config.forgetting:\n                    of_c",
        "if self.config.forgetting and t:\n                    of_c",
        "revlstm",
        1,
    ),
    "the last words are not refilled": Fault(
        "passes.py", "            launcher.refill(last)\n", "", "revlstm", 1
    ),
    "slices are buffered": Fault(
        "words.py",
        "active = has_step & (units >= depth)[None, :]\n    residue",
        "active = has_step\n    residue",
        "revlstm",
        1,
    ),
    "gains of the wrong step in the backward pass": Fault(
        "lstm_back.py", "publish(a, old, t - 1,", "publish(a, old, t,", "revlstm", 1
    ),
    "masked rows are carried on": Fault(
        "tiles.py", "tl.where(has_step, total, old)", "total", "revlstm", 1
    ),
    "gradient of c is read after it moved on": Fault(
        "gradient.py", "copy = now if J == 1 else 1 - now", "copy = now", "revlstm", 1
    ),
    "no barrier after u": no_barrier("revgru", "J, -1, 0, 0, B, Bp, K)", 12),
    "no barrier after u is computed again": no_barrier("revgru", "last_depth, B, Bp, K)", 12),
    "no barrier after gradients of u": no_barrier("revgru", "layer, J, B, Bp, C, K)", 12),
    "no barrier after a group's states": no_barrier("revlstm", "J, op, sliced, B, Bp, K)", 8),
    "no barrier after h is taken back": no_barrier("revlstm", "if K.FORGET:", 16),
    "the barrier lets go one program too early": Fault(
        "persistent.py",
        "due = turn * tl.num_programs(0)",
        "due = turn * tl.num_programs(0) - 1",
        "revgru",
        0,
        PERSISTENT,
    ),
    "the barrier goes on counting from the launch before": Fault(
        "launch_persistent.py", "        a.meeting.zero_()\n", "", "revgru", 0, PERSISTENT
    ),
    "a kernel of JAX's takes the word below": Fault(
        "words.py",
        "tl.cumsum(short.to(tl.int32), 1) - 1",
        "tl.cumsum(short.to(tl.int32), 1)",
        "revgru",
        1,
        JAX,
    ),
    "JAX does not refill the last words": Fault(
        "stack.py",
        "            go.refill((0, 0, depth))\n",
        "            pass\n",
        "revlstm",
        1,
        JAX,
    ),
    "JAX refills what is undone next": Fault(
        "stack.py",
        "last = ((t + 1) * operations, t + 1, depth)",
        "last = (t * operations, t, depth)",
        "revgru",
        1,
        JAX,
    ),
    "JAX puts words one place too high": Fault(
        "stack.py",
        "jnp.maximum(buffer.length, 0)",
        "jnp.maximum(buffer.length + 1, 0)",
        "revgru",
        1,
        JAX,
    ),
    "low bytes of JAX's weights unsigned": Fault(
        "weights.py", "(wide - (high << 8))", "((wide >> 1) - (high << 7))", "revlstm", 1, JAX
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_caught(name: str, tmp_path: Path) -> None:
    fault = FAULTS[name]
    package = engine_of_jax if fault.engine == JAX else engine_of_torch
    if Path(kernels.__path__[0], fault.file).exists():
        package = kernels
    folder = tmp_path / "changed"
    shutil.copytree(package.__path__[0], folder)
    path = folder / fault.file
    text = path.read_text(encoding="utf-8")
    assert text.count(fault.old) == 1, f"{fault.file} has the text {text.count(fault.old)} times"
    path.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
    where = ["--setup", str(fault.setup), "--engine", fault.engine, "--folder", str(folder)]
    where += ["--package", package.__name__]
    command = [sys.executable, str(SMALL), fault.cell, *where]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    # It ran to its end and said what is wrong, rather than broke.
    assert "WRONG" in process.stdout, process.stdout + process.stderr
    assert "crash" not in process.stdout, process.stdout
    assert process.returncode == 1


@pytest.mark.parametrize("engine", ["triton", PERSISTENT, JAX])
@pytest.mark.parametrize("cell", ["revgru", "revlstm"])
def test_without_a_fault_nothing_is_wrong(cell: str, engine: str) -> None:
    command = [sys.executable, str(SMALL), cell, "--engine", engine]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
