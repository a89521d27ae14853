"""Do the vectors notice every change of the code? ``nox -s mutants``.

Every constant, comparison, shift, sign, rounding and order in the arithmetic of an implementation is
changed, one at a time, and the vectors of the profiles ``gates``, ``buffer``, ``cell`` and
``sequence`` are asked. A mutant that passes them all survives: it is listed, and must be among
:data:`JUSTIFIED`, with the reason why it changes nothing that is exact. (Of PyTorch's files more is no
arithmetic: storage by blocks, accounts, scratch memory. Its survivors are not gone through yet.)
"""

from __future__ import annotations

import argparse
import ast
import copy
import faulthandler
import multiprocessing
import os
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from revrnn.conformance.adapters import Question
from revrnn.conformance.checking import faults
from revrnn.evaluation import outcome
from revrnn.operations import OPERATIONS
from revrnn.vectors import load as load_vectors

# In the order in which they import one another.
FILES = {
    "numpy": ("quantise", "product", "activations", "buffer", "revmul", "cells", "sequence"),
    "torch": ("quantise", "activations", "buffer", "revmul", "cells"),
}
PACKAGES = {"numpy": "revrnn.numpy_ref", "torch": "revrnn.torch_impl"}
PROFILES = ("gates", "buffer", "cell", "sequence")
# Seconds after which a mutant that does not end is a noticed one.
LIMIT = 60

# Mutants that change nothing exact, by implementation, file and change.
_GRADIENT = "says where gradients pass; the vectors of the profile gradient and its tests see it"
_UNREAD = "is not looked at there, or replaced before it is"
JUSTIFIED = {
    "numpy activations: 62 -> 61": "any bound below the table's end will do",
    "numpy activations: 1024 -> 1023": "TANH[1023] is TANH[1024]",
    "numpy activations: 0 -> 1": "tanh(0) is 0, of either sign",
    "numpy activations: s >= 0 -> s > 0": "tanh(0) is 0, of either sign",
    "numpy activations: z == unclipped -> z != unclipped": _GRADIENT,
    "numpy cells: 0 -> -1": "no unit is sliced either way",
    "numpy cells: 0 -> 1": _UNREAD,
    "numpy quantise: v + 2 ** 31 -> v - 2 ** 31": "equal modulo 2^32",
    "numpy quantise: np.abs(round_shift(h, state_bits - view_bits)) <= OPERAND_MAX -> "
    "np.abs(round_shift(h, state_bits - view_bits)) < OPERAND_MAX": _GRADIENT,
    "numpy quantise: state_bits - view_bits -> state_bits + view_bits": _GRADIENT,
    "numpy sequence: a * gain -> a + gain": _GRADIENT,
    "numpy sequence: np.abs(round_shift(a * gain, GAIN_BITS)) <= OPERAND_MAX -> "
    "np.abs(round_shift(a * gain, GAIN_BITS)) < OPERAND_MAX": _GRADIENT,
    "numpy sequence: 0 -> -1": _UNREAD,
    "numpy sequence: 0 -> 1": _UNREAD,
    "numpy sequence: 1025 -> 1024": "the way back counts no gates",
    "numpy sequence: 1025 -> 1026": "the way back counts no gates",
    "numpy sequence: self.c is not None and c is not None -> self.c is not None or c is not None":
        "both are None or neither",
}  # fmt: skip

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
}  # fmt: skip
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
    ast.Mult: ast.Add, ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}  # fmt: skip


def sites(tree: ast.Module) -> Iterator[tuple[ast.AST, int]]:
    """Give every node that can be changed, and how many ways there are."""
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            for inner in (getattr(node, "returns", None), *getattr(node, "decorator_list", ())):
                if inner is not None:
                    skipped |= {id(part) for part in ast.walk(inner)}
        if isinstance(node, ast.AnnAssign | ast.arg) and node.annotation is not None:
            skipped |= {id(part) for part in ast.walk(node.annotation)}
        if isinstance(node, ast.Assert):
            skipped |= {id(part) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Constant) and type(node.value) is int:
            yield node, 2
        elif isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARISONS:
            yield node, 1
        elif isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in _OPERATORS:
            yield node, 1
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not | ast.Invert):
            yield node, 1
        elif isinstance(node, ast.BoolOp):
            yield node, 1
        elif isinstance(node, ast.Call) and _name(node) == "reversed":
            yield node, 1
        elif isinstance(node, ast.Tuple) and _is_pair(node):
            yield node, 1


def _name(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _is_pair(node: ast.Tuple) -> bool:
    """Say whether a tuple is an order of the groups, (0, 1) or (1, 0)."""
    return [getattr(item, "value", None) for item in node.elts] in ([0, 1], [1, 0])


def change(node: Any, way: int) -> str:
    """Change a node in place and say how."""
    before = ast.unparse(node)
    if isinstance(node, ast.Constant):
        node.value += 1 if way == 0 else -1
    elif isinstance(node, ast.Compare):
        node.ops[0] = _COMPARISONS[type(node.ops[0])]()
    elif isinstance(node, ast.BinOp | ast.AugAssign):
        node.op = _OPERATORS[type(node.op)]()
    elif isinstance(node, ast.UnaryOp):
        node.op = ast.UAdd()
        if before.startswith("not "):
            node.op, node.operand = ast.Not(), ast.UnaryOp(ast.Not(), node.operand)
    elif isinstance(node, ast.BoolOp):
        node.op = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
    elif isinstance(node, ast.Call):
        node.func = ast.Name("list", ast.Load())
    elif isinstance(node, ast.Tuple):
        node.elts.reverse()
    return f"{before} -> {ast.unparse(node)}"


def mutants(source: str) -> Iterator[tuple[str, str]]:
    """Give a name and the changed source of every mutant of a file."""
    tree = ast.parse(source)
    for number, (node, ways) in enumerate(sites(tree)):
        for way in range(ways):
            fresh = copy.deepcopy(tree)
            target = list(sites(fresh))[number][0]
            name = f"line {getattr(node, 'lineno', 0)}: {change(target, way)}"
            yield name, ast.unparse(ast.fix_missing_locations(fresh))


def survives(implementation: str, file: str, source: str) -> bool:
    """Say whether no vector notices that a file has this source; in a process of its own."""
    package, names = PACKAGES[implementation], FILES[implementation]
    loaded = {name: import_module(f"{package}.{name}") for name in names}
    evaluate = import_module(f"{package}.evaluate")
    changed = loaded[file]
    try:
        _execute(changed, source)
        # What imported from it imports again.
        for name, module in list(sys.modules.items()):
            if name.startswith(f"{package}.") and module is not changed and _imports(module, file):
                _execute(module, Path(str(module.__file__)).read_text(encoding="utf-8"))
        _execute(evaluate, Path(str(evaluate.__file__)).read_text(encoding="utf-8"))
        for operation in OPERATIONS:
            if OPERATIONS[operation].profile not in PROFILES:
                continue
            for case in load_vectors(operation):
                question = Question(operation, case.args)
                answer = outcome(evaluate.IMPLEMENTATION, operation, question.args)
                if answer == {"error": "E_UNSUPPORTED"}:
                    continue
                if faults({"error": case.error} if case.out is None else case.out, answer):
                    return False
    except Exception:
        return False
    return True


def _execute(module: ModuleType, source: str) -> None:
    exec(compile(source, str(module.__file__), "exec"), module.__dict__)


def _imports(module: ModuleType, file: str) -> bool:
    source = getattr(module, "__file__", None)
    if not source:
        return False
    return f"from .{file} import" in Path(source).read_text(encoding="utf-8")


def _work(job: tuple[str, str, str, str]) -> tuple[str, str, str, bool]:
    """Try one mutant in a child of this process, which a mutant that never ends cannot stop."""
    implementation, file, name, source = job
    child = os.fork()
    if child == 0:
        faulthandler.dump_traceback_later(LIMIT, exit=True, file=open(os.devnull, "w"))  # noqa: SIM115
        os._exit(7 if survives(implementation, file, source) else 0)
    _, status = os.waitpid(child, 0)
    return implementation, file, name, os.waitstatus_to_exitcode(status) == 7


def main() -> int:
    """Try all mutants; return 1 if one survives without a reason."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--implementations", default="numpy", help="numpy or numpy,torch")
    parser.add_argument("--files", default=None, help="only these, for instance buffer,cells")
    options = parser.parse_args()
    jobs = []
    for implementation in options.implementations.split(","):
        chosen = FILES[implementation] if options.files is None else options.files.split(",")
        for file in chosen:
            module = import_module(f"{PACKAGES[implementation]}.{file}")
            source = Path(str(module.__file__)).read_text(encoding="utf-8")
            if not survives(implementation, file, source):
                raise SystemExit(f"{implementation} fails the vectors unchanged")
            jobs += [(implementation, file, *mutant) for mutant in mutants(source)]
    survivors = []
    with multiprocessing.Pool() as pool:
        for number, found in enumerate(pool.imap_unordered(_work, jobs), 1):
            if found[3]:
                survivors.append(found[:3])
            if number % 50 == 0:
                print(f"{number} of {len(jobs)}, {len(survivors)} survive", flush=True)
    unexplained = 0
    for implementation, file, name in sorted(survivors):
        where, _, what = name.partition(": ")
        reason = JUSTIFIED.get(f"{implementation} {file}: {what}")
        unexplained += reason is None
        print(f"survives: {implementation} {file}, {where}: {what}: {reason or 'NO REASON KNOWN'}")
    noticed = len(jobs) - len(survivors)
    print(f"{len(jobs)} mutants, {noticed} noticed by the vectors, {unexplained} without a reason")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
