"""The mutation of implementations (``nox -s mutants``): its changes, its table of survivors."""

from __future__ import annotations

import pytest
from mutation import changes_c, changes_python
from mutation.ports import files, jobs
from mutation.survivors import justified

C = """int f(int a, const int *b)
{
    if (a < 2 && !b[a])
        a += 3;
    return a;
}
"""


def test_every_operator_constant_index_and_statement_of_c_is_changed() -> None:
    names = {mutant.name.partition(" -> ")[2] for mutant in changes_c.mutants(C)}
    assert names == {
        "if (a <= 2 && !b[a])",
        "if (a < 3 && !b[a])",
        "if (a < 1 && !b[a])",
        "if (a < 2 || !b[a])",
        "if (a < 2 && b[a])",
        "if (a < 2 && !b[1 + (a)])",
        "a -= 3;",
        "a += 4;",
        "a += 2;",
        ";",
    }


def test_declarations_of_c_are_left_alone() -> None:
    source = "static int64_t *g(struct stack *stack)\n{\n    int64_t *items[4];\n}\n"
    assert {mutant.line for mutant in changes_c.mutants(source)} == {3}
    assert all("*items[" in mutant.name for mutant in changes_c.mutants(source))


def test_numbers_of_python_are_named_with_what_they_stand_in() -> None:
    names = [mutant.name for mutant in changes_python.mutants("def f(x):\n    return x >> 3\n")]
    assert "f: x >> 3 -> x >> 4" in names
    assert "f: x >> 3 -> x << 3" in names


@pytest.mark.parametrize("port", ["c", "jax", "native", "numpy", "torch"])
def test_every_survivor_with_a_reason_is_a_mutant_that_there_is(port: str) -> None:
    reasons = justified(port)
    made = {job.name for file in files(port) for job in jobs(port, file)}
    assert set(reasons.mutants) <= made
    assert set(reasons.functions) <= {name.partition(":")[0] for name in made}
