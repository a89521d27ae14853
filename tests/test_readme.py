"""The README's programs run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
PROGRAMS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_program(number: int) -> None:
    program = compile(PROGRAMS[number], f"README.md, program {number}", "exec")
    names: dict[str, object] = {"__name__": "readme"}
    exec(program, names)


def test_claim_about_tanh() -> None:
    oracle = re.search(r"'y': array\(\[(-?\d+)\]", README.read_text(encoding="utf-8"))
    assert oracle is not None
    names: dict[str, object] = {}
    exec(PROGRAMS[-1].replace("oracle.evaluate(", "found = oracle.evaluate(", 1), names)
    found = names["found"]
    assert isinstance(found, dict)
    assert int(found["y"][0]) == int(oracle[1])
