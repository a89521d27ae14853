"""A kernel as XLA wants it: Triton's intermediate language as text, for any GPU.

XLA's Triton kernels take arrays alone, those that are read before those that are written. So
numbers that are the same at every launch become constants; what follows from the counter of a loop
is computed at the kernel's beginning, from an array that holds the counter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from triton._C.libtriton import ir
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.compiler.compiler import make_backend

from ...gpu.constants import Constants
from ...gpu.pointers import Pointers
from .numbers import Number

# What is made does not depend on it; the front end asks for one all the same.
_TARGET = GPUTarget("cuda", 90, 32)
_HEAD = re.compile(r"tt\.func public @(\w+)\((.*)\)(?: attributes \{[^{}]*\})? \{")
_ARGUMENT = re.compile(r"(%[\w.]+): ((?:!tt\.ptr<\w+>)|i32)((?: \{[^{}]*\})?)")
COUNTER = "counter"


class Text(NamedTuple):
    """A kernel as text.

    Attributes:
        name: its name there.
        text: of the module.
        reads: the names of its first arguments, arrays that it reads.
    """

    name: str
    text: str
    reads: tuple[str, ...]


@lru_cache(maxsize=512)
def text_of(
    kernel: Any,
    types: tuple[tuple[str, str], ...],
    numbers: tuple[tuple[str, Number], ...],
    writes: tuple[str, ...],
    K: Constants,
) -> Text:
    """Return a kernel as text.

    Its arguments are those of ``reads``, one for each of ``writes`` that nothing uses, since XLA
    passes what is changed in place twice, and those of ``writes``.

    Args:
        kernel: in Triton, to be compiled.
        types: of the arrays by name, as Triton writes them.
        numbers: of the others of its arguments.
        writes: arrays that it changes.
        K: its constants.
    """
    order, module = _module(kernel, dict(types), dict(numbers), K)
    lines = module.splitlines()
    (at,) = (k for k, line in enumerate(lines) if _HEAD.search(line))
    head = _HEAD.search(lines[at])
    assert head is not None
    name, listed = head.groups()
    present = [match.groups() for match in _ARGUMENT.finditer(listed)]
    assert len(present) == len(order), name
    by_name = {
        label: (value, kind + more)
        for label, (value, kind, more) in zip(order, present, strict=True)
    }
    body = "\n".join(lines[at + 1 :])
    used = [n for n, (value, _) in by_name.items() if _uses(body, value)]
    varying = {n: number for n, number in numbers if not number.fixed and n in used}
    reads = tuple(n for n in used if n not in writes and n not in varying)
    begin, arguments = [], [f"{by_name[n][0]}: {by_name[n][1]}" for n in reads]
    if varying:
        reads = (*reads, COUNTER)
        arguments.append("%counter_at: !tt.ptr<i32> {tt.divisibility = 16 : i32}")
        begin.append("%counter_now = tt.load %counter_at : !tt.ptr<i32>")
        for n, number in varying.items():
            begin += _computed(by_name[n][0], number)
    kinds = dict(types)
    given = [by_name[n] if n in by_name else (f"%no_{n}", _pointer(kinds[n])) for n in writes]
    arguments += [f"%before_{k}: {kind}" for k, (_, kind) in enumerate(given)]
    arguments += [f"{value}: {kind}" for value, kind in given]
    lines[at] = f"  tt.func public @{name}({', '.join(arguments)}) {{"
    lines[at + 1 : at + 1] = [f"    {line}" for line in begin]
    return Text(name, "\n".join(lines), reads)


def _pointer(kind: str) -> str:
    names = {"fp32": "f32"}
    return f"!tt.ptr<{names.get(kind[1:], kind[1:])}> {{tt.divisibility = 16 : i32}}"


def _uses(body: str, value: str) -> bool:
    return re.search(re.escape(value) + r"(?![\w.])", body) is not None


def _computed(value: str, number: Number) -> list[str]:
    """Return the lines that compute a number from the counter."""
    stem = value[1:]
    lines = [
        f"%{stem}_scale = arith.constant {number.scale} : i32",
        f"%{stem}_offset = arith.constant {number.offset} : i32",
        f"%{stem}_scaled = arith.muli %counter_now, %{stem}_scale : i32",
    ]
    if not number.odd:
        return [*lines, f"{value} = arith.addi %{stem}_scaled, %{stem}_offset : i32"]
    return [
        *lines,
        f"%{stem}_sum = arith.addi %{stem}_scaled, %{stem}_offset : i32",
        f"%{stem}_one = arith.constant 1 : i32",
        f"{value} = arith.andi %{stem}_sum, %{stem}_one : i32",
    ]


def _module(
    kernel: Any, types: Mapping[str, str], numbers: Mapping[str, Number], K: Constants
) -> tuple[list[str], str]:
    """Return the names of the arguments in their order, and the text of the module."""
    names, order = kernel.arg_names, []
    signature: dict[str, Any] = {}
    constants: dict[tuple[int, ...], Any] = {(names.index("K"),): K}
    aligned: dict[tuple[int, ...], Any] = {}
    divisible = [["tt.divisibility", 16]]
    for at, name in enumerate(names):
        if name == "a":
            kinds = []
            for i, field in enumerate(Pointers._fields):
                kind = None if field in names else types.get(field)
                if kind is None:
                    constants[at, i] = None
                else:
                    order.append(field)
                    aligned[at, i] = divisible
                kinds.append(kind or "constexpr")
            signature[name] = Pointers(*kinds)
        elif name in types:
            order.append(name)
            signature[name], aligned[at,] = types[name], divisible
        elif name in numbers and not numbers[name].fixed:
            order.append(name)
            signature[name] = "i32"
        else:
            signature[name] = "constexpr"
            if name in numbers:
                constants[at,] = numbers[name].offset
    backend = make_backend(_TARGET)
    options = backend.parse_options({})
    context = ir.context()
    ir.load_dialects(context)
    backend.load_dialects(context)
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
    generated = backend.get_codegen_implementation(options)
    module = source.make_ir(_TARGET, options, generated, backend.get_module_map(), context)
    module = backend.make_ttir(module, {}, options, 90)
    return order, str(module.str_nodebug())
