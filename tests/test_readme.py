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


TRAINING = [text for text in PROGRAMS if "for _ in range(2):" in text]


def test_two_programs_train() -> None:
    assert len(TRAINING) == 2


@pytest.mark.parametrize("number", range(2))
def test_training_goes_on(number: int) -> None:
    """In 100 updates the loss falls, and at no time is it much above where it began."""
    text = TRAINING[number].replace("range(2)", "range(100)")
    losses: list[float] = []
    program = compile(f"{text}    losses.append(float(step.loss))\n", "README.md", "exec")
    exec(program, {"__name__": "readme", "losses": losses})
    assert len(losses) == 100
    assert max(losses) < losses[0] + 0.1
    assert sum(losses[-5:]) / 5 < 0.9 * losses[0]


def test_claim_about_tanh() -> None:
    oracle = re.search(r"'y': array\(\[(-?\d+)\]", README.read_text(encoding="utf-8"))
    assert oracle is not None
    names: dict[str, object] = {}
    exec(PROGRAMS[-1].replace("oracle.evaluate(", "result = oracle.evaluate(", 1), names)
    result = names["result"]
    assert isinstance(result, dict)
    assert int(result["y"][0]) == int(oracle[1])
