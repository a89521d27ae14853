"""Compiles all kernels for GPUs that are not there, and reads what came out.

``python tests/gpu/compile.py 80 90 100`` prints a table of registers, spills, shared memory and
tensor-core instructions.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from revrnn.gpu import gradient, gru, gru_back, inputs, lstm, lstm_back, persistent, tiles, words
from revrnn.gpu.constants import Constants
from revrnn.gpu.pointers import Pointers
from revrnn.gpu.sizes import Tiles, power, up

ARCHITECTURES = (80, 90, 100)
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
OF_BYTES = {"wh", "wl", "mask", "high", "low"}
OF_FLOATS = {"w", "w_in", "tape", "lower", "dh", "dc", "ds", "through", "given"}
OF_WORDS = {"stage", "words", "x", "into"}
# Pointers outside of ``Pointers``; other arguments are numbers.
OTHERS = {"x", "wh", "wl", "bias", "part", "places", "into"}
CONSTANTS = Constants(
    GRU=False,
    G=575,
    Gp=576,
    N=5,
    Ip=704,
    SLOTS=4,
    PLANES=10,
    R_S=24,
    R_H=23,
    VIEW=12,
    SHIFT=11,
    XS=2,
    LIMIT=3,
    Z_MAX=1019,
    P_MAX=896,
    FORGET=True,
    WRAPS=True,
    MASK=True,
    GAINS=True,
    KEEP=True,
    STORED=False,
    BM=32,
    BN=16,
    BK=64,
    CP=1024,
    NP=64,
    REFILL=True,
)

GRU_ONLY: dict[str, Any] = {"GRU": True, "N": 3, "PLANES": 8, "XS": 0}


def type_of(name: str, first: bool = True) -> str:
    """Return the type of an array that kernels get, as Triton writes it."""
    if name == "part":
        return "*i64" if first else "*i32"
    if name in OF_BYTES:
        return "*i8"
    return "*fp32" if name in OF_FLOATS else "*i16" if name in OF_WORDS else "*i32"


@dataclass(frozen=True)
class Compiled:
    """What a kernel became.

    Attributes:
        name: its name, with ``+`` for a layer above the first, and the cell of one that takes
            many steps.
        registers: of a thread.
        spills: instructions that store registers to, and load them from, local memory.
        shared: bytes of shared memory.
        bytes_dots: tensor-core instructions on signed bytes.
        float_dots: tensor-core instructions on any kind of floats.
    """

    name: str
    architecture: int
    registers: int
    spills: int
    shared: int
    bytes_dots: int
    float_dots: int


def made_of(kernel: Any, architecture: int, constants: Constants, warps: int, stages: int) -> Any:
    """Compile one kernel, as Triton gives it."""
    names = kernel.arg_names
    signature: dict[str, Any] = {n: type_of(n) if n in OTHERS else "i32" for n in names}
    aligned = {(names.index(n),): [["tt.divisibility", 16]] for n in names if n in OTHERS}
    upper = replace(constants, FIRST=False)
    for name, first in {"a": constants.FIRST, "b": False}.items():
        if name in names:
            at, fields = names.index(name), Pointers._fields
            signature[name] = Pointers(*(type_of(field, first) for field in fields))
            aligned |= {(at, i): [["tt.divisibility", 16]] for i in range(len(fields))}
    given = {"K": constants, "U": upper, "GIVEN": True}
    fixed = {(names.index(name),): value for name, value in given.items() if name in names}
    signature |= {name: "constexpr" for name in given if name in names}
    together = "b" in names
    return triton.compile(
        ASTSource(fn=kernel, signature=signature, constexprs=fixed, attrs=aligned),
        target=GPUTarget("cuda", architecture, 32),
        options={"num_warps": warps, "num_stages": stages, "launch_cooperative_grid": together},
    )


def compiled(
    kernel: Any, architecture: int, constants: Constants, warps: int, stages: int, mark: str
) -> Compiled:
    """Compile one kernel and read what it became."""
    made = made_of(kernel, architecture, constants, warps, stages)
    return read(made, kernel.__name__ + mark, architecture)


def compiled_text(text: str, name: str, architecture: int, warps: int, stages: int) -> Compiled:
    """Compile a kernel in Triton's intermediate language, and read what it became."""
    target, options = (
        GPUTarget("cuda", architecture, 32),
        {"num_warps": warps, "num_stages": stages},
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.ttir"
        path.write_text(text, encoding="utf-8")
        made = triton.compile(str(path), target=target, options=options)
    return read(made, name, architecture)


def read(made: Any, name: str, architecture: int) -> Compiled:
    """Read what a kernel became."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(made.asm["cubin"])
        usage = _output("cuobjdump", "--dump-resource-usage", str(path))
        code = _output("nvdisasm", str(path))
    registers = re.search(r"REG:(\d+)", usage)
    assert registers is not None, usage

    def count(pattern: str) -> int:
        return len(re.findall(rf"\b(?:{pattern})\b", code))

    ptx = made.asm["ptx"]
    return Compiled(
        name=name,
        architecture=architecture,
        registers=int(registers[1]),
        spills=count(r"STL(?:\.\w+)*|LDL(?:\.\w+)*"),
        shared=made.metadata.shared,
        bytes_dots=len(re.findall(r"(?:mma|tcgen05)\S*\.s8|tcgen05\.mma\S*kind::i8", ptx)),
        float_dots=count(r"[HQ]G?MMA(?:\.\w+)*"),
    )


def _output(tool: str, *arguments: str) -> str:
    return subprocess.run(
        [str(TOOLS / tool), *arguments], capture_output=True, text=True, check=True
    ).stdout


def base_of(units: int, batch: int, cut: Tiles) -> Constants:
    """Return the constants of groups of so many units."""
    padded, rows = up(units, max(cut.units, cut.block)), up(batch, cut.rows)
    across = padded // cut.units
    return replace(
        CONSTANTS,
        G=units,
        Gp=padded,
        BM=cut.rows,
        BN=cut.units,
        BK=cut.block,
        CP=power(rows * across),
        NP=power(across),
    )


def all_kernels(architecture: int, units: int, batch: int = 20) -> Iterator[Compiled]:
    """Yield all kernels of a stack whose groups have so many units, as the engine launches them."""
    cut = Tiles.for_batch(batch)
    base = base_of(units, batch, cut)
    both = (
        gru.gru_gates,
        gru.gru_state,
        gru_back.gru_unstate,
        lstm.lstm_state,
        lstm_back.lstm_unhide,
    )
    for first in (True, False):
        for kernel in both:
            constants = replace(base, FIRST=first)
            if kernel.__name__.startswith("gru"):
                constants = replace(constants, **GRU_ONLY)
            mark = "" if first else "+"
            yield compiled(kernel, architecture, constants, cut.warps, cut.stages, mark)
    for kernel in (lstm_back.lstm_uncell, words.refill, tiles.prepare, gradient.add_outputs):
        yield compiled(kernel, architecture, base, 4, 3, "")
    yield compiled(words.compact, architecture, base, 1, 3, "")
    for kernel in (gradient.gru_to_u, gradient.gru_to_view, gradient.to_layer_below):
        constants = replace(base, BK=min(cut.block, 64))
        if kernel.__name__.startswith("gru"):
            constants = replace(constants, **GRU_ONLY)
        yield compiled(kernel, architecture, constants, 4, 2, "")
    yield compiled(gradient.lstm_back, architecture, replace(base, BK=32), 4, 2, "")
    constants = replace(base, BM=64, BN=32, BK=64)
    yield compiled(inputs.input_part, architecture, constants, 4, 3, "")


def persistent_kernels(architecture: int, units: int, batch: int = 20) -> Iterator[Compiled]:
    """Yield the kernels that take many steps of a stack of two layers (``launch_persistent``)."""
    cut = Tiles.for_batch(batch)
    base = base_of(units, batch, cut)
    lstm_only = {"BN": 8, "CP": 2 * base.CP, "NP": 2 * base.NP}
    for mark, more, block in ((" of RevGRU", GRU_ONLY, 64), (" of RevLSTM", lstm_only, 32)):
        constants = replace(base, **more)
        for kernel in (persistent.forward, persistent.back):
            yield compiled(kernel, architecture, constants, cut.warps, cut.stages, mark)
        constants = replace(constants, BK=block)
        yield compiled(persistent.pull, architecture, constants, cut.warps, 2, mark)


def main(architectures: list[int], units: int = 575) -> None:
    """Print the table."""
    print("| kernel | GPU | registers | spills | shared memory | byte dots |")
    print("|---|---|---:|---:|---:|---:|")
    for architecture in architectures:
        for made in (*all_kernels(architecture, units), *persistent_kernels(architecture, units)):
            print(
                f"| {made.name} | sm_{made.architecture} | {made.registers} | {made.spills} "
                f"| {made.shared} | {made.bytes_dots} |",
                flush=True,
            )


if __name__ == "__main__":
    main([int(text) for text in sys.argv[1:]] or list(ARCHITECTURES))
