"""The native kernels without numba's compiler: what it compiles is run by Python instead.

A changed kernel that numba compiles takes 10 to 25 seconds until it is asked anything. Here its
functions of Python are interpreted, with numba's rules for numbers: integers are int64 unless they
lie in an array, floats in the text float64, and what is written to an array is cut to its type. Its
functions in LLVM's terms are compiled by LLVM alone, each by itself: they are the same instructions
on the same processor. Threads are left out: shares of a call are done one after the other.
"""

from __future__ import annotations

import ast
import ctypes
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import find_spec, spec_from_file_location
from types import CodeType, ModuleType
from typing import Any, Final

import numba
import numba.cpython.unsafe.tuple
import numba.extending
import numpy as np

from .fenced import FencedNumPy
from .intrinsics import Intrinsic

PACKAGE: Final = "revrnn.native"
# What imports the kernels, and is imported anew with them.
_USERS: Final = "revrnn.torch_impl.native"
# Decorators of functions that numba compiles.
_COMPILED: Final = frozenset({"inner", "native", "inline"})


def wide(value: Any) -> Any:
    """Return what was read from an array as numba computes with it."""
    return np.int64(value) if isinstance(value, np.integer) else value


def put(array: Any, index: Any, value: Any) -> None:
    """Write into an array what its type has room for."""
    try:
        array[index] = value
    except OverflowError:
        array[index] = np.asarray(value, np.int64).astype(array.dtype)


class _Numbers(ast.NodeTransformer):
    """Makes functions that numba compiles compute with numbers as it does."""

    def __init__(self) -> None:
        self._inside = False

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        before, names = self._inside, {getattr(d, "id", "") for d in node.decorator_list}
        self._inside = before or bool(names & _COMPILED)
        node.body = [made for part in node.body for made in self._listed(self.visit(part))]
        self._inside = before
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is not None:
            node.value = self.visit(node.value)
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        self.generic_visit(node)
        if not self._inside or not isinstance(node.ctx, ast.Load):
            return node
        return self._call(node, "_wide", node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if self._inside and isinstance(node.value, float):
            return self._call(node, "_real", node)
        return node

    def visit_Assign(self, node: ast.Assign) -> Any:
        self.generic_visit(node)
        target = node.targets[0]
        if not self._inside or isinstance(target, ast.Name):
            return node
        if isinstance(target, ast.Subscript):
            return self._written(node, target, node.value)
        if not any(isinstance(t, ast.Subscript) for t in ast.walk(target)):
            return node
        assert isinstance(target, ast.Tuple)
        kept = ast.copy_location(ast.Name("_kept", ast.Store()), node)
        lines: list[ast.stmt] = [ast.copy_location(ast.Assign([kept], node.value), node)]
        for n, part in enumerate(target.elts):
            assert isinstance(part, ast.Subscript)
            one = ast.Subscript(ast.Name("_kept", ast.Load()), ast.Constant(n), ast.Load())
            lines.append(self._written(node, part, one))
        return lines

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        self.generic_visit(node)
        if not self._inside or not isinstance(node.target, ast.Subscript):
            return node
        read = ast.Subscript(node.target.value, node.target.slice, ast.Load())
        total = ast.BinOp(self._call(node, "_wide", read), node.op, node.value)
        return self._written(node, node.target, total)

    def _written(self, at: ast.stmt, target: ast.Subscript, value: ast.expr) -> ast.stmt:
        index: ast.expr = target.slice
        if any(isinstance(part, ast.Slice) for part in ast.walk(index)):
            target.ctx = ast.Store()
            return ast.copy_location(ast.Assign([target], value), at)
        return ast.copy_location(ast.Expr(self._call(at, "_put", target.value, index, value)), at)

    def _call(self, at: ast.AST, name: str, *given: ast.expr) -> ast.Call:
        made = ast.Call(ast.Name(name, ast.Load()), list(given), [])
        ast.copy_location(made, at)
        return ast.fix_missing_locations(made)

    @staticmethod
    def _listed(made: Any) -> list[Any]:
        return made if isinstance(made, list) else [made]


@cache
def interpreted(source: str, path: str) -> CodeType:
    """Return the code of a file of kernels as it is interpreted."""
    tree = ast.fix_missing_locations(_Numbers().visit(ast.parse(source)))
    return compile(tree, path, "exec")


# --- stand-ins -------------------------------------------------------------------------------


def _intrinsic(*given: Any, **options: Any) -> Any:
    return Intrinsic(*given) if given else Intrinsic


def _carray(place: Any, shape: Any) -> Any:
    address, dtype = place
    count = int(np.prod(shape, dtype=np.int64))
    if count == 0:
        return np.empty(shape, dtype)
    assert count > 0
    size = count * np.dtype(dtype).itemsize
    whole = np.frombuffer((ctypes.c_char * size).from_address(int(address)), dtype)
    return whole.reshape(shape)


def _pointer(address: Any, kind: Any) -> Any:
    return address, np.dtype(str(kind.dtype if hasattr(kind, "dtype") else kind))


def _with(values: Any, index: int, value: Any) -> Any:
    return (*values[:index], value, *values[index + 1 :])


def _i32(value: Any) -> Any:
    return np.int64((int(value) + 2**31) % 2**32 - 2**31)


def _plain(function: Any) -> Any:
    function.py_func = function
    return function


def _sar(value: Any, count: Any) -> Any:
    return _i32(value) >> (int(count) % 32)


class _Function:
    """A callback: a function of an address, which C may call too."""

    by_address: Final[dict[int, Any]] = {}

    def __init__(self, function: Any) -> None:
        kind = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
        self._itself = kind(lambda address: int(function(address)))
        self.address = ctypes.cast(self._itself, ctypes.c_void_p).value or 0
        self.by_address[self.address] = function


def _run(function: int, tasks: Any, threads: int, region: int) -> None:
    _run_job([(function, tasks)], threads, region)


def _run_job(job: Any, threads: int, region: int) -> None:
    for function, tasks in job:
        failed = [_Function.by_address[int(function)](int(task.ctypes.data)) for task in tasks]
        if any(failed):
            break


_addresses: Final[dict[str, int]] = {}


class _Loader(SourceFileLoader):
    source = ""
    lacking: Mapping[str, bool]

    def get_code(self, fullname: str) -> CodeType:
        return interpreted(self.source, self.path)

    def exec_module(self, module: ModuleType) -> None:
        stands = {"_wide": wide, "_put": put, "_real": np.float64}
        vars(module).update(stands)
        super().exec_module(module)
        if "np" in vars(module):
            vars(module)["np"] = FencedNumPy()
        if module.__name__ == f"{PACKAGE}.compiling":
            plain = dict.fromkeys(("native", "inner", "inline"), _plain)
            own = {name: getattr(value, "py_func", value) for name, value in vars(module).items()}
            vars(module).update(own | plain, callback=_Function, i32=_i32, sar=_sar)
        if module.__name__ == f"{PACKAGE}.processor":
            vars(module).update(self.lacking)
        if module.__name__ == f"{PACKAGE}.frames":
            vars(module)["pointer"] = _pointer


class Kernels(MetaPathFinder):
    """Makes Python import kernels that are interpreted, one of them maybe changed."""

    def __init__(
        self, paths: dict[str, str], sources: dict[str, str], lacking: Mapping[str, bool]
    ) -> None:
        """Take the paths and texts of all files by their modules' names."""
        self.paths, self.sources, self.lacking = paths, sources, lacking

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """Return how a kernel's module is loaded, ``None`` for others."""
        if name not in self.sources:
            return None
        loader = _Loader(name, self.paths[name])
        loader.source, loader.lacking = self.sources[name], self.lacking
        return spec_from_file_location(name, self.paths[name], loader=loader)


def forget_kernels() -> None:
    """Let kernels, and what uses them, be imported anew."""
    for name in list(sys.modules):
        if name.startswith((f"{PACKAGE}.", f"{_USERS}.")):
            package, _, file = name.rpartition(".")
            vars(sys.modules[package]).pop(file, None)
            del sys.modules[name]


def fence_users() -> None:
    """Let what uses the kernels give them arrays behind which memory ends."""
    for name, module in list(sys.modules.items()):
        if name.startswith(f"{_USERS}.") and "np" in vars(module):
            vars(module)["np"] = FencedNumPy()


@contextmanager
def kernels(sources: dict[str, str], lacking: Mapping[str, bool]) -> Iterator[None]:
    """Let kernels be imported from texts, by the names of their modules.

    Args:
        sources: the texts.
        lacking: names in :mod:`revrnn.native.processor` that have other values.
    """
    paths = {name: str(_spec(name).origin) for name in sources}
    threads = ModuleType(f"{PACKAGE}.threads")
    vars(threads).update(run=_run, run_job=_run_job, job_of=list, POSIX=True)
    vars(threads).update(prepare=lambda: None, make_known=_addresses.__setitem__)
    vars(threads).update(address_of=_addresses.__getitem__)
    replaced: list[tuple[Any, str, Any]] = [
        (numba.extending, "intrinsic", _intrinsic),
        (numba, "carray", _carray),
        (numba.cpython.unsafe.tuple, "tuple_setitem", _with),
    ]
    before = [(place, name, getattr(place, name)) for place, name, _ in replaced]
    finder = Kernels(paths, sources, lacking)
    forget_kernels()
    for place, name, value in replaced:
        setattr(place, name, value)
    sys.modules[f"{PACKAGE}.threads"] = threads
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for place, name, value in before:
            setattr(place, name, value)


@cache
def _spec(name: str) -> Any:
    return find_spec(name)
