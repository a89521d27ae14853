"""How functions are compiled: by numba, without the interpreter's lock, kept on disk.

Numba compiles for the processor it runs on, needs no compiler on the machine, and is imported only
when this engine is.
"""

from __future__ import annotations

import errno
import gc
import hashlib
import inspect
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.caching import FunctionCache
from numba.core.ccallback import CFunc
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import Dispatcher
from numba.extending import intrinsic

from revrnn.whole_files import NO_ROOM

from .processor import AMX

_FunctionCache: Any = FunctionCache
_JITCodeLibrary: Any = JITCodeLibrary
_CompilerBase: Any = CompilerBase
_njit: Any = numba.njit
_intrinsic: Any = intrinsic

Array = np.ndarray[Any, Any]
Maybe = Array | None

# As compiled functions use them: with another meaning than for a type checker.
i32: Any = np.int32
i64: Any = np.int64
f32: Any = np.float32

# How many new objects Python looks through at once while something is compiled; else 700 to 2,000.
_OBJECTS: Final = 50_000

# Functions of one file are compiled into callers of another, which numba's own key does not see.
SOURCES = hashlib.sha256(
    b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
).hexdigest()


class _Cache(_FunctionCache):  # type: ignore[misc]
    """Numba's cache, keyed by all sources of this engine as well, and by what the system grants."""

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return (*super()._index_key(sig, codegen), SOURCES, AMX)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return what was compiled before; ``None`` where the files are damaged."""
        try:
            return super().load_overload(sig, target_context)
        except MemoryError:
            raise
        except Exception:  # pickle raises almost anything
            with suppress(OSError):
                Path(self._cache_file._index_path).unlink()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what was compiled, where there is room for it.

        Numba writes which file has the code before it writes the code. A process that is killed in
        between must not leave there what was compiled from older sources.
        """
        file = self._cache_file
        try:
            if not file._load_index():
                for old in Path(self.cache_path).glob(f"{self._impl.filename_base}.*.nbc"):
                    old.unlink(missing_ok=True)
            super().save_overload(sig, data)
        except OSError as error:  # of other kinds where another process is at the same files
            if error.errno in (*NO_ROOM, errno.EROFS):
                _say_that_there_is_no_room(f"{self.cache_path}: {error.strerror}")


@cache
def _say_that_there_is_no_room(why: str) -> None:
    """Warn, once a process and folder, that compiled code has found a place and no room there."""
    text = "compiled code was not kept, and the next process compiles again"
    text = f"revrnn: {text}: {why}; NUMBA_CACHE_DIR names another folder"
    warnings.warn(text, RuntimeWarning, stacklevel=3)


@cache
def _say_that_nothing_is_kept() -> None:
    """Warn, once a process, that there is no place for compiled code."""
    text = "compiled code cannot be kept, and every process compiles for half a minute: neither its"
    text += " source's folder nor the user's cache can be written; NUMBA_CACHE_DIR names another"
    warnings.warn(f"revrnn: {text}", RuntimeWarning, stacklevel=4)  # at the function


def _keep(made: Any, function: Callable[..., Any]) -> None:
    """Let what is compiled of a function be kept on disk, where there is a place for it.

    Numba's key has what a function closes over; of what is compiled it is another in each process.
    """
    closed_over = inspect.getclosurevars(function).nonlocals
    if any(isinstance(value, Dispatcher) for value in closed_over.values()):
        raise TypeError(f"{function.__qualname__} closes over what is compiled: never found again")
    try:
        made._cache = _Cache(function)
    except RuntimeError:  # of numba's: no folder that can be written
        _say_that_nothing_is_kept()


def _with_few_collections(compiles: Callable[..., Any]) -> Callable[..., Any]:
    """Return what compiles with Python looking for garbage less often.

    Compiling leaves little garbage, and looking for it took a tenth of the time.
    """

    def compiled(*args: Any, **kwargs: Any) -> Any:
        with global_compiler_lock:  # one at a time, as they compile: each finds what it changed
            often, *rest = gc.get_threshold()
            gc.set_threshold(often and max(often, _OBJECTS), *rest)  # 0: never
            try:
                return compiles(*args, **kwargs)
            finally:
                gc.set_threshold(often, *rest)

    return compiled


_OUTER: Any = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}


def native(function: Callable[..., Any]) -> Any:
    """Return ``function`` compiled when it is first called with arguments of new types."""
    made = _njit(**_OUTER)(function)
    _keep(made, function)
    made.compile = _with_few_collections(made.compile)
    return made


class _Part(_JITCodeLibrary):  # type: ignore[misc]
    """The code of a function that is called by compiled functions alone, within which it is kept.

    They are optimised and made machine code with all that they call; of this by itself neither is
    done, which spares a quarter of all compiling.
    """

    class _Codegen:
        def set_env(self, name: str, env: object) -> None:
            """Do nothing: there is no machine code that would look there."""

    codegen = _Codegen()

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """Return 0: there is none."""
        return 0


class _PartCompiler(_CompilerBase):  # type: ignore[misc]
    def define_pipelines(self) -> list[Any]:
        """Return Numba's own passes, whose code goes into a :class:`_Part`."""
        state = self.state
        state.library = _Part(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return [DefaultPassBuilder.define_nopython_pipeline(state)]


_INNER: Any = {"error_model": "numpy", "pipeline_class": _PartCompiler}


def inner(function: Callable[..., Any]) -> Any:
    """Return ``function`` to be called by compiled functions alone, within which it is kept."""
    return _njit(**_INNER, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


def inline(function: Callable[..., Any]) -> Any:
    """Return ``function`` to be compiled into its callers."""
    return _njit(**_INNER, forceinline=True)(function)


def _sar(typingctx: Any, value: Any, count: Any) -> Any:
    """Return ``value >> count`` in int32, count below 32; Numba would widen to int64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        narrow = ir.IntType(32)
        # Of a number that is int32 already, LLVM's builder makes the same number.
        return builder.ashr(*(builder.trunc(a, narrow) for a in args))

    return types.int32(value, count), codegen


sar: Any = _intrinsic(_sar)


@inline
def round_shift(v: Any, k: Any) -> Any:
    """Return int32 ``v`` shifted right by ``k``, at least 1, rounded half up (GEN-003)."""
    return sar(i32(sar(v, k - 1) + 1), 1)


@inner
def hold(array: Array) -> Any:
    """Keep an array whose address others know until here; Numba lets go of it at its last use."""
    return array.size


def callback(function: Callable[..., Any]) -> Any:
    """Return a function of an address, compiled to be called from C; it has an ``address``."""
    made: Any = CFunc(function, ((types.int64,), types.int64), {}, {"error_model": "numpy"})
    _keep(made, function)
    _with_few_collections(made.compile)()
    return made
