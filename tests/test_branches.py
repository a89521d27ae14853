"""Vectors, and the first random requests of each operation, reach every branch of the oracle."""

from __future__ import annotations

import pytest
from mutation.branches import UNREACHABLE, missed, unexplained
from mutation.questions import random_requests, vectors

from revrnn.operations import OPERATIONS

ASKED = {"vectors": vectors, "random": random_requests}


@pytest.mark.parametrize("kind", UNREACHABLE)
def test_every_branch_is_reached(kind: str) -> None:
    asked = [one for operation in OPERATIONS for one in ASKED[kind](operation)]
    assert not unexplained(kind, asked)


def test_fewer_requests_reach_fewer_branches() -> None:
    """What measures the branches sees that revmul's do not reach those of cells."""
    assert any("cells.py" in line for line in missed(vectors("revmul")))
