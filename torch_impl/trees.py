"""Inputs and targets that are several arrays: dicts, lists and tuples of what has steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree


class Tree:
    """Several arrays that are cut along their steps together, as one array is.

    Attributes:
        leaves: the arrays, and ``None`` where there is none.
        structure: how the caller holds them.
    """

    def __init__(self, leaves: list[Any], structure: Any) -> None:
        """Take the arrays, and how the caller holds them."""
        self.leaves, self.structure = leaves, structure

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(next(leaf for leaf in self.leaves if leaf is not None))

    def __getitem__(self, steps: Any) -> Tree:
        """Return some steps."""
        cut = [None if leaf is None else leaf[steps] for leaf in self.leaves]
        return Tree(cut, self.structure)

    def clone(self) -> Tree:
        """Return copies of the tensors."""
        copies = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in self.leaves]
        return Tree(copies, self.structure)


def tree_of(value: Any, steps: int | None = None) -> Any:
    """Return what a caller gave as a :class:`Tree`, if it is a dict, list or tuple.

    Lists and tuples of as many members as ``steps`` are cut themselves.
    """
    if _is_leaf(value, steps):
        return value
    leaves, structure = _pytree.tree_flatten(value, lambda one: _is_leaf(one, steps))
    return Tree(leaves, structure)


def named_leaves(name: str, value: Any, steps: int | None = None) -> list[tuple[str, Any]]:
    """Return the leaves of what a caller gave, by names such as ``inputs['tokens']``."""
    paths, _ = _pytree.tree_flatten_with_path(value, lambda one: _is_leaf(one, steps))
    return [
        (name + _pytree.keystr(path), leaf) for path, leaf in paths if leaf is not None or not path
    ]


def as_given(value: Any) -> Any:
    """Return a tree as the caller holds it, anything else as it is."""
    if not isinstance(value, Tree):
        return value
    return _pytree.tree_unflatten(value.leaves, value.structure)


def lengths(data: Any) -> tuple[int, int]:
    """Return the steps and rows of a tensor, or of all tensors of a tree."""
    steps, rows = next(t.shape[:2] for t in tensors_of(data) if t.dim() > 1)
    return steps, rows


def tensors_of(*values: object) -> Iterator[Tensor]:
    """Return the tensors among arrays and trees."""
    for value in values:
        for leaf in value.leaves if isinstance(value, Tree) else [value]:
            if isinstance(leaf, Tensor):
                yield leaf


def joined(a: Any, b: Any) -> Any:
    """Return the steps of two, one after the other; ``None`` if they are no tensors."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.cat([a.detach(), b])
    if not (isinstance(a, Tree) and isinstance(b, Tree)):
        return None
    pairs = zip(a.leaves, b.leaves, strict=True)
    both = [None if x is None else joined(x, y) for x, y in pairs]
    lacks = any(one is None is not x for one, x in zip(both, a.leaves, strict=True))
    return None if lacks else Tree(both, a.structure)


def _is_leaf(value: object, steps: int | None) -> bool:
    if isinstance(value, PackedSequence) or not isinstance(value, (dict, list, tuple)):
        return True
    return not isinstance(value, dict) and len(value) == steps
