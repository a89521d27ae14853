"""Functions of kernels in LLVM's terms, compiled by LLVM alone and called from Python."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final

import numba
import numpy as np
from llvmlite import binding, ir
from numba.core import cgutils
from numba.core.registry import cpu_target

from revrnn.native import processor

from .tile_registers import emulated

_WORD: Final = ir.IntType(64)
# Whether this processor has registers for tiles, whatever the kernels are told.
_TILES: Final = processor.AMX


@cache
def _engine() -> Any:
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    target = binding.Target.from_triple(binding.get_process_triple())
    features = binding.get_host_cpu_features().flatten()
    machine = target.create_target_machine(binding.get_host_cpu_name(), features, 1, "default")
    return binding.create_mcjit_compiler(binding.parse_assembly(""), machine)


# Addresses of what was compiled, by its text: a change leaves most functions as they were.
_addresses: Final[dict[str, int]] = {}


def _compiled(text: str) -> int:
    """Return the address of the function of a module."""
    if text not in _addresses:
        name = f"compiled_{len(_addresses)}_{os.getpid()}"
        given = text.replace("NAME_OF_IT", name)
        module = binding.parse_assembly(given if _TILES else emulated(given))
        module.verify()
        _engine().add_module(module)
        _engine().finalize_object()
        _addresses[text] = _engine().get_function_address(name)
    return _addresses[text]


def _flat(value: Any, numbers: list[Any], kinds: list[Any]) -> None:
    """Add the numbers that a function is given for a value, and what tells their types."""
    if isinstance(value, np.ndarray):
        numbers.append(value.__array_interface__["data"][0])
        kinds.append((value.dtype.char, value.ndim, value.flags.c_contiguous))
    elif isinstance(value, tuple):
        kinds.append((type(value), len(value)))
        for part in value:
            _flat(part, numbers, kinds)
    elif isinstance(value, float | np.floating):
        numbers.append(float(value))
        kinds.append("single" if isinstance(value, np.float32) else "double")
    elif isinstance(value, int | np.integer | np.bool_):
        numbers.append(int(value))
        kinds.append("integer")
    else:  # None, or a type of numba's
        kinds.append(value)


def _kind(value: Any) -> Any:
    """Return numba's type of a value."""
    if isinstance(value, int | np.integer | np.bool_):
        return numba.types.int64
    if isinstance(value, tuple):
        return numba.types.NamedTuple([_kind(part) for part in value], type(value))
    return numba.typeof(value)


class Intrinsic:
    """A function in LLVM's terms, called from Python as numba's compiled functions call it."""

    # By which codes of Python each was written; those of the present request.
    seen: set[Any] | None = None

    def __init__(self, make: Callable[..., Any]) -> None:
        """Take what gives a signature and what writes the function."""
        self.make = make
        self._known: dict[Any, tuple[Any, frozenset[Any]]] = {}

    def __call__(self, *given: Any) -> Any:
        """Call it, compiled when it is first called with such types."""
        numbers: list[Any] = []
        kinds: list[Any] = []
        for value in given:
            _flat(value, numbers, kinds)
        key = tuple(kinds)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._write(given)
        function, codes = known
        if Intrinsic.seen is not None:
            Intrinsic.seen |= codes
        return function(*numbers)

    def _write(self, given: tuple[Any, ...]) -> tuple[Any, frozenset[Any]]:
        codes: set[Any] = set()

        def look(frame: Any, event: str, argument: object) -> Any:
            codes.add((frame.f_code.co_filename, frame.f_lineno))
            return look

        before = sys.gettrace()
        if Intrinsic.seen is not None:
            sys.settrace(look)
        try:
            function = self._made(given)
        finally:
            sys.settrace(before)
        return function, frozenset(codes)

    def _made(self, given: tuple[Any, ...]) -> Any:
        context = cpu_target.target_context
        signature, codegen = self.make(None, *map(_kind, given))
        result = signature.return_type
        gives = ir.VoidType() if result == numba.types.void else context.get_value_type(result)
        kinds: list[Any] = []
        _plain_kinds(list(map(_kind, given)), kinds)
        module = ir.Module()
        made = ir.Function(module, ir.FunctionType(gives, [k for k, _ in kinds]), "NAME_OF_IT")
        builder = ir.IRBuilder(made.append_basic_block())
        left = iter(made.args)
        values = [_value(context, builder, _kind(value), left) for value in given]
        # Numba converts what a function is given to the types of its signature.
        both = zip(values, map(_kind, given), signature.args, strict=True)
        values = [_converted(context, builder, *one) for one in both]
        answer = codegen(context, builder, signature, values)
        if result == numba.types.void:
            builder.ret_void()
        else:
            builder.ret(answer)
        address = _compiled(str(module))
        returned = None if result == numba.types.void else ctypes.c_int64
        if result == numba.types.int32:
            returned = ctypes.c_int32  # type: ignore[assignment]
        return ctypes.CFUNCTYPE(returned, *(k for _, k in kinds))(address)


def _plain_kinds(given: Any, kinds: list[Any]) -> None:
    for kind in given:
        if isinstance(kind, numba.types.Array):
            kinds.append((_WORD, ctypes.c_int64))
        elif isinstance(kind, numba.types.BaseTuple):
            _plain_kinds(kind, kinds)
        elif kind == numba.types.float32:
            kinds.append((ir.FloatType(), ctypes.c_float))
        elif kind == numba.types.float64:
            kinds.append((ir.DoubleType(), ctypes.c_double))
        elif isinstance(kind, numba.types.Integer):
            kinds.append((_WORD, ctypes.c_int64))


def _value(context: Any, builder: Any, kind: Any, left: Iterator[Any]) -> Any:
    """Return a value of a type from the numbers that are left."""
    if isinstance(kind, numba.types.Array):
        array = cgutils.create_struct_proxy(kind)(context, builder)
        element = context.get_data_type(kind.dtype).as_pointer()
        array.data = builder.inttoptr(next(left), element)
        return array._getvalue()
    if isinstance(kind, numba.types.BaseTuple):
        inner: Any = kind
        parts = [_value(context, builder, part, left) for part in inner.types]
        whole = ir.Constant(context.get_value_type(kind), ir.Undefined)
        for n, part in enumerate(parts):
            whole = builder.insert_value(whole, part, n)
        return whole
    if isinstance(kind, numba.types.Integer | numba.types.Float):
        return next(left)
    return context.get_dummy_value()


def _converted(context: Any, builder: Any, value: Any, kind: Any, wanted: Any) -> Any:
    if kind == wanted or not isinstance(wanted, numba.types.Number):
        return value
    return context.cast(builder, value, kind, wanted)
