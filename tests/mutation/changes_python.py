"""Mutants of Python source: one constant, comparison, operator or order changed at a time.

A changed number is named with what it stands in, so that a reason given for one place never covers
another; of those of one name, the second is called number 2.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from typing import Any

from .mutant import Mutant

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


def mutants(source: str) -> Iterator[Mutant]:
    """Give every mutant of a file.

    One tree serves all: a node is changed, what stands around it written, and the node put back.
    """
    tree = ast.parse(source)
    owners, above, names = _owners(tree), _above(tree), Counter[str]()
    texts = [ast.unparse(statement) for statement in tree.body]
    places = {id(node): number for number, top in enumerate(tree.body) for node in ast.walk(top)}
    for node, ways in list(sites(tree)):
        shown, number = _shown(above, node), places[id(node)]
        before, kept = ast.unparse(shown), _fields(node)
        for way in range(ways):
            change(node, way)
            name = f"{owners.get(id(node), 'module')}: {before} -> {ast.unparse(shown)}"
            names[name] += 1
            name += f" (number {names[name]})" if names[name] > 1 else ""
            changed = [*texts[:number], ast.unparse(tree.body[number]), *texts[number + 1 :]]
            yield Mutant(name, "\n".join(changed), getattr(node, "lineno", 0))
            vars(node).update(kept)
            kept = _fields(node)


def _fields(node: ast.AST) -> dict[str, Any]:
    """Return what a node has, such that changing the node does not change it."""
    return {
        name: list(value) if isinstance(value, list) else value
        for name, value in ast.iter_fields(node)
    }


def _above(tree: ast.Module) -> dict[int, ast.AST]:
    """Return which node each is directly in."""
    return {id(inner): outer for outer in ast.walk(tree) for inner in ast.iter_child_nodes(outer)}


def _shown(above: dict[int, ast.AST], node: ast.AST) -> ast.AST:
    """Return what names a change: the node; of a number, what tells it from the same elsewhere."""
    if not isinstance(node, ast.Constant):
        return node
    shown: ast.AST = node
    while isinstance(shown, ast.Constant | ast.UnaryOp | ast.Slice | ast.Tuple | ast.keyword):
        if isinstance(above[id(shown)], ast.For | ast.arguments):
            break
        shown = above[id(shown)]
    return shown


def _owners(tree: ast.Module) -> dict[int, str]:
    """Return the name of the innermost function that each node is in."""
    owners: dict[int, str] = {}
    for node in ast.walk(tree):  # outer functions come first
        if isinstance(node, ast.FunctionDef):
            owners |= {id(inner): node.name for inner in ast.walk(node)}
    return owners
