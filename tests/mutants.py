"""Do the vectors notice every change of the code? ``nox -s mutants``.

Every constant, comparison, shift, sign, rounding and order in the arithmetic of an implementation
is changed, one at a time, and the vectors of the profiles ``gates``, ``buffer``, ``cell`` and
``sequence`` are asked. A mutant that passes them all survives: it is listed, and must be among
:data:`JUSTIFIED`, with the reason why it changes nothing that an operation gives. A changed number
is named with what it stands in, so that a reason given for one place never covers another. JAX is
left out: each of its mutants would be compiled anew for a minute; so are PyTorch's exact product
and its walk over a sequence, whose mutants are mostly of how work is cut into chunks.
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
    "torch": ("quantise", "activations", "blocks", "buffer", "revmul", "cells"),
}
PACKAGES = {"numpy": "revrnn.numpy_ref", "torch": "revrnn.torch_impl"}
PROFILES = ("gates", "buffer", "cell", "sequence")
# Seconds after which a mutant that does not end is a noticed one.
LIMIT = 60

# Mutants that change nothing exact, by implementation, file, function and change.
_GRADIENT = "says where gradients pass: the vectors of the profile gradient see it"
_FLOATS = "says where gradients of float inputs pass: operations are given integers"
_UNREAD = "is not looked at there, or replaced before it is"
_BOTH = "both are None or neither"
_AXIS = "the only axis, or one of length 1"
_ROOM = "there is room enough either way: what a call asks for first is the most"
_UPPER = "the place is below the upper end of the clip anyhow"
_BLOCKS = "how many elements are worked on together changes no element"
_REPORT = "words by layer, for people's reports: no operation gives them, but tests see them"
_ZERO = "only whether it is 0 is looked at, and flags are never left over"
JUSTIFIED = {
    "numpy activations.tanh: 2 ** 62 -> 2 ** 61": "any bound below the table's end will do",
    "numpy activations.tanh: np.minimum(i + 1, 1024) -> np.minimum(i + 1, 1023)": (
        "TANH[1023] is TANH[1024]"
    ),
    "numpy activations.tanh: s >= 0 -> s >= 1": "tanh(0) is 0, of either sign",
    "numpy activations.tanh: s >= 0 -> s > 0": "tanh(0) is 0, of either sign",
    "numpy activations.forget_gate: z == unclipped -> z != unclipped": _GRADIENT,
    "numpy cells.update: _add(context, c, gates.f, 0, cell_state_update(context.config, gates)) -> "
    "_add(context, c, gates.f, -1, cell_state_update(context.config, gates))": (
        "no unit is sliced either way"
    ),
    "numpy cells.undo: restore[:, :0] -> restore[:, :1]": _UNREAD,
    "numpy quantise.wrap32: v + 2 ** 31 -> v - 2 ** 31": "equal modulo 2^32",
    "numpy quantise.view_passes: np.abs(round_shift(h, state_bits - view_bits)) <= OPERAND_MAX -> "
    "np.abs(round_shift(h, state_bits - view_bits)) < OPERAND_MAX": _GRADIENT,
    "numpy quantise.view_passes: state_bits - view_bits -> state_bits + view_bits": _GRADIENT,
    "numpy sequence.gain_passes: a * gain -> a + gain": _GRADIENT,
    "numpy sequence.gain_passes: np.abs(round_shift(a * gain, GAIN_BITS)) <= OPERAND_MAX -> "
    "np.abs(round_shift(a * gain, GAIN_BITS)) < OPERAND_MAX": (
        "says where gradients pass: a vector of the profile gradient sees it"
    ),
    "numpy sequence.sequence_forward: mask[:0] -> mask[:1]": _UNREAD,
    "numpy sequence.sequence_forward: mask[:0] -> mask[:-1]": _UNREAD,
    "numpy sequence.sequence_forward: slices[0] -> slices[-1]": _UNREAD,
    "numpy sequence.sequence_forward: Forward(np.zeros((len(x), x.shape[1], config.hidden_size), "
    "np.int64), state, buffer, slices[0], 0, context.gate_counts, [], [], []) -> "
    "Forward(np.zeros((len(x), x.shape[1], config.hidden_size), "
    "np.int64), state, buffer, slices[0], 1, context.gate_counts, [], [], [])": _UNREAD,
    "numpy sequence.sequence_forward: Forward(np.zeros((len(x), x.shape[1], config.hidden_size), "
    "np.int64), state, buffer, slices[0], 0, context.gate_counts, [], [], []) -> "
    "Forward(np.zeros((len(x), x.shape[1], config.hidden_size), "
    "np.int64), state, buffer, slices[0], -1, context.gate_counts, [], [], [])": _UNREAD,
    "numpy sequence.sequence_reverse: "
    "Context(config, mask[t], buffer, 0, np.zeros(1025, np.int64), gain) -> "
    "Context(config, mask[t], buffer, 1, np.zeros(1025, np.int64), gain)": _UNREAD,
    "numpy sequence.sequence_reverse: "
    "Context(config, mask[t], buffer, 0, np.zeros(1025, np.int64), gain) -> "
    "Context(config, mask[t], buffer, -1, np.zeros(1025, np.int64), gain)": _UNREAD,
    "numpy sequence.sequence_reverse: np.zeros(1025, np.int64) -> np.zeros(1024, np.int64)": (
        "the way back counts no gates"
    ),
    "numpy sequence.sequence_reverse: np.zeros(1025, np.int64) -> np.zeros(1026, np.int64)": (
        "the way back counts no gates"
    ),
    "numpy sequence.set_group: self.c is not None and c is not None -> "
    "self.c is not None or c is not None": _BOTH,
    "torch activations.forget_gate: z_max == 1024 -> z_max == 1025": (
        "a clip at 1024 does not act"
    ),
    "torch activations.forget_gate: z == unclipped -> z != unclipped": _GRADIENT,
    "torch activations.tanh: packed_table(s.device).index_select(0, index.view(-1)) -> "
    "packed_table(s.device).index_select(-1, index.view(-1))": _AXIS,
    "torch activations.tanh: s >> 31 -> s >> 30": (
        "differs for 2^30 alone, where tanh is 2^15, which is even"
    ),
    "torch activations.tanh: s >> 31 -> s >> 32": "a shift by all bits gives the sign too",
    "torch blocks._make_room: len(self.open) <= room -> len(self.open) < room": _ROOM,
    "torch blocks._make_room: room + 1 -> room + 2": _ROOM,
    "torch blocks.close: max(int(self.top), 0) -> max(int(self.top), -1)": (
        "where a block is closed no top is below 0: an underflow has been reported before"
    ),
    "torch buffer.finish_block: self.left_over + blocks.top.abs() -> "
    "self.left_over - blocks.top.abs()": _ZERO,
    "torch buffer.fresh_heads: layout == 'stream' -> layout != 'stream'": (
        "a request brings its heads; the modules' tests see fresh ones"
    ),
    "torch buffer.pop: len(spills.open) - 1 -> len(spills.open) + 1": _UPPER,
    "torch buffer.pop: len(spills.open) - 1 -> len(spills.open) - 0": _UPPER,
    "torch buffer.pop: len(planes.open) - 1 -> len(planes.open) + 1": _UPPER,
    "torch buffer.pop: len(planes.open) - 1 -> len(planes.open) - 0": _UPPER,
    "torch buffer.pop: spills.open.index_select(0, place) -> "
    "spills.open.index_select(-1, place)": _AXIS,
    "torch buffer.pop: torch.where(missing, -1, planes.top - spill.to(torch.int64)) -> "
    "torch.where(missing, -2, planes.top - spill.to(torch.int64))": (
        "any top below 0 means underflow"
    ),
    "torch buffer.pop: planes.open.index_select(0, place)[0] -> "
    "planes.open.index_select(0, place)[-1]": _AXIS,
    "torch buffer.push: planes.open is not None and spills.open is not None -> "
    "planes.open is not None or spills.open is not None": _BOTH,
    "torch buffer.push: spills.open.index_copy_(0, spills.top, spill.view(1)) -> "
    "spills.open.index_copy_(-1, spills.top, spill.view(1))": _AXIS,
    "torch buffer.stream_pop: torch.cumsum(short.view(-1), 0) -> "
    "torch.cumsum(short.view(-1), -1)": _AXIS,
    "torch buffer.stream_pop: len(block) - 1 -> len(block) + 1": _UPPER,
    "torch buffer.stream_pop: len(block) - 1 -> len(block) - 0": _UPPER,
    "torch buffer.stream_pop: block.index_select(0, place) -> block.index_select(-1, place)": _AXIS,
    "torch buffer.stream_push: torch.cumsum(full.view(-1), 0) -> "
    "torch.cumsum(full.view(-1), -1)": _AXIS,
    "torch buffer.stream_push: len(block) - 1 -> len(block) - 2": (
        "the bound of BUF-035 is above what is pushed, so the last two places are free"
    ),
    "torch buffer.stream_push: block.scatter_(0, place, head.to(torch.int16).view(-1)) -> "
    "block.scatter_(-1, place, head.to(torch.int16).view(-1))": _AXIS,
    "torch cells._add: context.gate_counts is not None and context.pushed is not None -> "
    "context.gate_counts is not None or context.pushed is not None": _BOTH,
    "torch cells._add: (context.buffer.stored.top - top)[0] -> "
    "(context.buffer.stored.top - top)[-1]": _AXIS,
    "torch cells._add: context.buffer.stored.top - top -> context.buffer.stored.top + top": _REPORT,
    "torch cells._add: context.pushed[layer] += (context.buffer.stored.top - top)[0] -> "
    "context.pushed[layer] -= (context.buffer.stored.top - top)[0]": _REPORT,
    "torch cells._add: (product ^ total) & (change ^ total) < 0 -> "
    "(product ^ total) & (change ^ total) < -1": (
        "both parts of the sum would have to be 0x55555555, which no update reaches"
    ),
    "torch cells.update: _add(context, layer, c, gates.f, 0, cell_state_update(config, gates)) -> "
    "_add(context, layer, c, gates.f, -1, cell_state_update(config, gates))": (
        "no unit is sliced either way"
    ),
    "torch quantise.blocks: x.device.type != 'cpu' -> x.device.type == 'cpu'": _BLOCKS,
    "torch quantise.blocks: _CACHED * len(x) -> _CACHED + len(x)": _BLOCKS,
    "torch quantise.blocks: _CACHED * len(x) // max(x.numel(), 1) -> "
    "_CACHED * len(x) * max(x.numel(), 1)": _BLOCKS,
    "torch quantise.blocks: max(1, _CACHED * len(x) // max(x.numel(), 1)) -> "
    "max(2, _CACHED * len(x) // max(x.numel(), 1))": _BLOCKS,
    "torch quantise.blocks: max(x.numel(), 1) -> max(x.numel(), 2)": _BLOCKS,
    "torch quantise.check_finite: not given -> not not given": (
        "operations refuse NaN before; the modules' tests see it"
    ),
    "torch quantise.check_finite: not good -> not not good": (
        "says which argument, where operations have refused before; the modules' tests see it"
    ),
    "torch quantise.module: 2 ** 16 -> 1 ** 16": _BLOCKS,
    "torch quantise.module: 2 ** 16 -> 3 ** 16": _BLOCKS,
    "torch quantise.module: 2 ** 16 -> 2 ** 15": _BLOCKS,
    "torch quantise.module: 2 ** 16 -> 2 ** 17": _BLOCKS,
    "torch quantise.operand_passes: (x.float() * 2.0 ** formats.operand_bits).round_().abs_() <= "
    "OPERAND_MAX -> "
    "(x.float() * 2.0 ** formats.operand_bits).round_().abs_() < OPERAND_MAX": _FLOATS,
    "torch quantise.operand_passes: x.float() * 2.0 ** formats.operand_bits -> "
    "x.float() + 2.0 ** formats.operand_bits": _FLOATS,
    "torch quantise.quantise: work.shape == part.shape -> work.shape != part.shape": (
        "which memory is used again changes no element"
    ),
    "torch quantise.view_passes: round_shift(h, state_bits - view_bits).abs_() <= OPERAND_MAX -> "
    "round_shift(h, state_bits - view_bits).abs_() < OPERAND_MAX": _GRADIENT,
    "torch quantise.view_passes: state_bits - view_bits -> state_bits + view_bits": _GRADIENT,
}
# Functions all of whose mutants change nothing exact.
LEFT_OUT = {"torch buffer.block_bytes": "bytes for reports, which no operation gives"}

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.Mult: ast.Add,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}


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


def change(node: Any, way: int) -> None:
    """Change a node in place."""
    if isinstance(node, ast.Constant):
        node.value = int(node.value) + (1 if way == 0 else -1)  # type: ignore[arg-type]
    elif isinstance(node, ast.Compare):
        node.ops[0] = _COMPARISONS[type(node.ops[0])]()
    elif isinstance(node, ast.BinOp | ast.AugAssign):
        node.op = _OPERATORS[type(node.op)]()
    elif isinstance(node, ast.UnaryOp):
        if isinstance(node.op, ast.Not):
            node.operand = ast.UnaryOp(ast.Not(), node.operand)
        else:
            node.op = ast.UAdd()
    elif isinstance(node, ast.BoolOp):
        node.op = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
    elif isinstance(node, ast.Call):
        node.func = ast.Name("list", ast.Load())
    elif isinstance(node, ast.Tuple):
        node.elts.reverse()


def mutants(source: str) -> Iterator[tuple[str, str]]:
    """Give a name and the changed source of every mutant of a file."""
    tree = ast.parse(source)
    owners = _owners(tree)
    for number, (node, ways) in enumerate(sites(tree)):
        for way in range(ways):
            fresh = copy.deepcopy(tree)
            target = list(sites(fresh))[number][0]
            shown = _shown(fresh, target)
            before = ast.unparse(shown)
            change(target, way)
            where = f"{owners.get(id(node), 'module')}, line {getattr(node, 'lineno', 0)}"
            name = f"{where}: {before} -> {ast.unparse(shown)}"
            yield name, ast.unparse(ast.fix_missing_locations(fresh))


def _shown(tree: ast.Module, node: ast.AST) -> ast.AST:
    """Return what names a change: the node; of a number, what tells it from the same elsewhere."""
    if not isinstance(node, ast.Constant):
        return node
    above = {id(inner): outer for outer in ast.walk(tree) for inner in ast.iter_child_nodes(outer)}
    found: ast.AST = node
    while isinstance(found, ast.Constant | ast.UnaryOp | ast.Slice | ast.Tuple | ast.keyword):
        if isinstance(above[id(found)], ast.For | ast.arguments):
            break
        found = above[id(found)]
    return found


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
