"""Numbers in memory that several threads change, and waiting for them, in LLVM's terms."""

from __future__ import annotations

from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from .processor import X86

_intrinsic: Any = intrinsic
_LONG: Any = types.int64
_WORD = ir.IntType(64)
_ORDER: Final = "seq_cst"
_ARM: Final = cpu_target.target_context.codegen().magic_tuple()[0].startswith(("aarch64", "arm64"))
_YIELD: Final = 1  # of ARM's hints


def _pointer(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, _WORD.as_pointer())


def _load(typingctx: Any, address: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.load_atomic(_pointer(builder, values[0]), _ORDER, 8)

    return _LONG(types.int64), codegen


def _store(typingctx: Any, address: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        builder.store_atomic(values[1], _pointer(builder, values[0]), _ORDER, 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


def _add(typingctx: Any, address: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.atomic_rmw("add", _pointer(builder, values[0]), values[1], _ORDER)

    return _LONG(types.int64, types.int64), codegen


def _take(typingctx: Any, address: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        place, free, own = _pointer(builder, values[0]), _WORD(0), _WORD(1)
        pair = builder.cmpxchg(place, free, own, _ORDER, _ORDER)
        return builder.extract_value(pair, 1)

    return types.boolean(types.int64), codegen


def _pause(typingctx: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        nothing, number = ir.VoidType(), ir.IntType(32)
        if X86:
            kind = ir.FunctionType(nothing, [])
            builder.call(builder.module.declare_intrinsic("llvm.x86.sse2.pause", (), kind), [])
        elif _ARM:
            kind = ir.FunctionType(nothing, [number])
            hint = builder.module.declare_intrinsic("llvm.aarch64.hint", (), kind)
            builder.call(hint, [number(_YIELD)])
        return context.get_dummy_value()

    return types.void(), codegen


# Of an int64 at an address: its value; a new value; a number added, which gives the value before;
# and one written where 0 was, which says whether it was.
load_now, store_now, add_now = _intrinsic(_load), _intrinsic(_store), _intrinsic(_add)
take = _intrinsic(_take)
# What tells a core that it waits in a loop.
pause = _intrinsic(_pause)
