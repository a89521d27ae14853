"""Do the vectors notice every change of the code? ``nox -s mutants``.

Every constant, comparison, shift, sign, rounding and order in the arithmetic of an implementation
is changed, one at a time, and the vectors of the profiles ``gates``, ``buffer``, ``cell`` and
``sequence`` are asked. A mutant that passes them all survives: it is listed, and must be among
:data:`JUSTIFIED`, with the reason why it changes nothing that an operation gives. JAX is left out:
each of its mutants would be compiled anew for a minute.
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

# Mutants that change nothing exact, by implementation, file, function and change.
_GRADIENT = "says where gradients pass; the vectors of the profile gradient and its tests see it"
_UNREAD = "is not looked at there, or replaced before it is"
_BOTH = "both are None or neither"
_AXIS = "the only axis, or one of length 1"
_ROOM = "room for more, or for no more than was there before"
_TOP = "the number read lies between the ends of the clip, or what is read means nothing (ERR-002)"
_BLOCKS = "how many elements are worked on together changes no element"
_BYTES = "bytes for people's reports; no operation gives them, the modules' tests see them"
_PROOF = (
    "part of the proof at run time (SEQ-009), which no operation gives; tests of modules see it"
)
JUSTIFIED = {
    "numpy activations.tanh: 62 -> 61": "any bound below the table's end will do",
    "numpy activations.tanh: 1024 -> 1023": "TANH[1023] is TANH[1024]",
    "numpy activations.tanh: 0 -> 1": "tanh(0) is 0, of either sign",
    "numpy activations.tanh: s >= 0 -> s > 0": "tanh(0) is 0, of either sign",
    "numpy activations.forget_gate: z == unclipped -> z != unclipped": _GRADIENT,
    "numpy cells.update: 0 -> -1": "no unit is sliced either way",
    "numpy cells.undo: 0 -> -1": "no unit is sliced either way",
    "numpy cells.undo: 0 -> 1": _UNREAD,
    "numpy quantise.wrap32: v + 2 ** 31 -> v - 2 ** 31": "equal modulo 2^32",
    "numpy quantise.view_passes: np.abs(round_shift(h, state_bits - view_bits)) <= OPERAND_MAX -> "
    "np.abs(round_shift(h, state_bits - view_bits)) < OPERAND_MAX": _GRADIENT,
    "numpy quantise.view_passes: state_bits - view_bits -> state_bits + view_bits": _GRADIENT,
    "numpy sequence.gain_passes: a * gain -> a + gain": _GRADIENT,
    "numpy sequence.gain_passes: np.abs(round_shift(a * gain, GAIN_BITS)) <= OPERAND_MAX -> "
    "np.abs(round_shift(a * gain, GAIN_BITS)) < OPERAND_MAX": _GRADIENT,
    "numpy sequence.sequence_forward: 0 -> -1": _UNREAD,
    "numpy sequence.sequence_forward: 0 -> 1": _UNREAD,
    "numpy sequence.sequence_reverse: 0 -> -1": _UNREAD,
    "numpy sequence.sequence_reverse: 0 -> 1": _UNREAD,
    "numpy sequence.sequence_reverse: 1025 -> 1024": "the way back counts no gates",
    "numpy sequence.sequence_reverse: 1025 -> 1026": "the way back counts no gates",
    "numpy sequence.set_group: self.c is not None and c is not None -> "
    "self.c is not None or c is not None": _BOTH,
    "torch activations.forget_gate_of: 1024 -> 1025": "a clip at 1024 does not act",
    "torch activations.forget_gate_of: z == unclipped -> z != unclipped": _GRADIENT,
    "torch activations.tanh: 0 -> -1": _AXIS,
    "torch activations.tanh: 31 -> 30": "differs for 2^30 alone, where tanh is 2^15, which is even",
    "torch activations.tanh: 31 -> 32": "a shift by all bits gives the sign too",
    "torch buffer._make_room: len(self.block) <= words -> len(self.block) < words": _ROOM,
    "torch buffer._make_room: len(self.planes) <= planes -> len(self.planes) < planes": _ROOM,
    "torch buffer._make_room: len(self.spills) <= operations -> len(self.spills) < operations":
        _ROOM,
    "torch buffer._make_room: 1 -> 2": _ROOM,
    "torch buffer.close_block: self.planes is not None and self.spills is not None -> "
    "self.planes is not None or self.spills is not None": _BOTH,
    "torch buffer.close_block: 0 -> -1": "forwards no top is below 0",
    "torch buffer.finish_block: self.left_over + self.top.abs() -> "
    "self.left_over - self.top.abs()": _PROOF,
    "torch buffer.finish_block: self.left_over + self.top.abs() + self.flags_top.abs() -> "
    "self.left_over + self.top.abs() - self.flags_top.abs()": _PROOF,
    "torch buffer.fresh_heads: layout == 'stream' -> layout != 'stream'":
        "a request brings its heads; the modules' tests see fresh ones",
    "torch buffer.pop: 0 -> -1": _TOP,
    "torch buffer.pop: 1 -> 0": _TOP,
    "torch buffer.pop: 1 -> 2": "any top below 0 means underflow",
    "torch buffer.pop: len(self.spills) - 1 -> len(self.spills) + 1": _TOP,
    "torch buffer.pop: len(self.planes) - 1 -> len(self.planes) + 1": _TOP,
    "torch buffer.push: self.planes is not None and self.spills is not None -> "
    "self.planes is not None or self.spills is not None": _BOTH,
    "torch buffer.push: 0 -> -1": _AXIS,
    "torch buffer.stream_pop: 0 -> -1": _AXIS,
    "torch buffer.stream_pop: 1 -> 0": _TOP,
    "torch buffer.stream_pop: len(block) - 1 -> len(block) + 1": _TOP,
    "torch buffer.stream_push: 0 -> -1": _AXIS,
    "torch buffer.stream_push: 1 -> 2": "the bound of BUF-035 is above what is pushed, so the last "
    "two places are free",
    "torch cells._add: context.gate_counts is not None and context.pushed is not None -> "
    "context.gate_counts is not None or context.pushed is not None": _BOTH,
    "torch cells._add: 0 -> -1": "a top has one element; and both parts of a sum would have to be "
    "0x55555555, which no update reaches",
    "torch cells._add: context.buffer.top - top -> context.buffer.top + top": _BYTES,
    "torch cells._add: context.pushed[layer] += (context.buffer.top - top)[0] -> "
    "context.pushed[layer] -= (context.buffer.top - top)[0]": _BYTES,
    "torch cells.update: 0 -> -1": "no unit is sliced either way",
    "torch quantise.check_finite: not given -> not not given":
        "operations refuse NaN before; the modules' tests see it",
    "torch quantise.check_finite: not good -> not not good":
        "says which argument, where operations have refused before; the modules' tests see it",
    "torch quantise.module: 2 -> 1": _BLOCKS,
    "torch quantise.module: 2 -> 3": _BLOCKS,
    "torch quantise.module: 16 -> 15": _BLOCKS,
    "torch quantise.module: 16 -> 17": _BLOCKS,
    "torch quantise.operand_passes: (x.float() * 2.0 ** formats.operand_bits).round_().abs_() <= "
    "OPERAND_MAX -> (x.float() * 2.0 ** formats.operand_bits).round_().abs_() < OPERAND_MAX":
        _GRADIENT,
    "torch quantise.operand_passes: x.float() * 2.0 ** formats.operand_bits -> "
    "x.float() + 2.0 ** formats.operand_bits": _GRADIENT,
    "torch quantise.quantise: work.shape == part.shape -> work.shape != part.shape": _BLOCKS,
    "torch quantise.view_passes: round_shift(h, state_bits - view_bits).abs_() <= OPERAND_MAX -> "
    "round_shift(h, state_bits - view_bits).abs_() < OPERAND_MAX": _GRADIENT,
    "torch quantise.view_passes: state_bits - view_bits -> state_bits + view_bits": _GRADIENT,
}  # fmt: skip
# Functions all of whose mutants change nothing exact.
LEFT_OUT = {
    "torch buffer.block_bytes": _BYTES,
    "torch quantise.blocks": _BLOCKS,
}

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
        ways = 0 if id(node) in skipped else _ways(node)
        if ways:
            yield node, ways


def _ways(node: ast.AST) -> int:
    """Return in how many ways a node can be changed."""
    match node:
        case ast.Constant(value=value) if type(value) is int:
            return 2
        case ast.Compare(ops=[operator, *_]):
            return int(type(operator) in _COMPARISONS)
        case ast.BinOp(op=operation) | ast.AugAssign(op=operation):
            return int(type(operation) in _OPERATORS)
        case ast.UnaryOp(op=ast.USub() | ast.Not() | ast.Invert()) | ast.BoolOp():
            return 1
        case ast.Call():
            return int(_name(node) == "reversed")
        case ast.Tuple():
            return int(_is_pair(node))
        case _:
            return 0


def _name(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _is_pair(node: ast.Tuple) -> bool:
    """Say whether a tuple is an order of the groups, (0, 1) or (1, 0)."""
    return [getattr(item, "value", None) for item in node.elts] in ([0, 1], [1, 0])


def change(node: Any, way: int) -> str:
    """Change a node in place and say how."""
    before = ast.unparse(node)
    if isinstance(node, ast.Constant):
        node.value = int(node.value) + (1 if way == 0 else -1)  # type: ignore[arg-type]
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
    owners = _owners(tree)
    for number, (node, ways) in enumerate(sites(tree)):
        for way in range(ways):
            fresh = copy.deepcopy(tree)
            target = list(sites(fresh))[number][0]
            where = f"{owners.get(id(node), 'module')}, line {getattr(node, 'lineno', 0)}"
            yield f"{where}: {change(target, way)}", ast.unparse(ast.fix_missing_locations(fresh))


def _owners(tree: ast.Module) -> dict[int, str]:
    """Return the name of the innermost function that each node is in."""
    found: dict[int, str] = {}
    for node in ast.walk(tree):  # outer functions come first
        if isinstance(node, ast.FunctionDef):
            found |= {id(inner): node.name for inner in ast.walk(node)}
    return found


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
    parser.add_argument("--implementations", default="numpy,torch", help="numpy, torch or both")
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
        function = where.partition(",")[0]
        owner = f"{implementation} {file}.{function}"
        reason = JUSTIFIED.get(f"{owner}: {what}", LEFT_OUT.get(owner))
        unexplained += reason is None
        print(f"survives: {implementation} {file}.{where}: {what}: {reason or 'NO REASON KNOWN'}")
    noticed = len(jobs) - len(survivors)
    print(f"{len(jobs)} mutants, {noticed} noticed by the vectors, {unexplained} without a reason")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
