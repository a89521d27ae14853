"""The programs of the pages for those who come from another library run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("optax")

PAGES = sorted((Path(__file__).parents[1] / "docs").glob("coming-from-*.md"))
PROGRAMS = {
    f"{page.stem}, {number}": text
    for page in PAGES
    for number, text in enumerate(
        re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    )
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is a loss in a loop, it falls."""
    monkeypatch.chdir(tmp_path)
    text, losses = PROGRAMS[name], list[float]()
    if "lbfgs" in text:
        text += "    losses.append(float(now))\n"
    exec(compile(text, name, "exec"), {"__name__": "page", "losses": losses})
    assert losses[1:] == sorted(losses[1:], reverse=True)
    assert not losses or losses[-1] < 0.6 * losses[0]


def test_there_are_programs() -> None:
    assert len(PROGRAMS) > 1
    assert any("lbfgs" in text for text in PROGRAMS.values())
