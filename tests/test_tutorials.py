"""The tutorials' programs run, and print what the pages say they print."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "docs" / "tutorials"
# What is made shorter in the quick tests: a program's words and theirs.
SHORTER = {
    "what-reversal-is.md": {},
    "how-much-does-my-model-forget.md": {"range(120)": "range(3)", "(0, 119)": "(0, 2)"},
    "train-a-long-sequence-in-50-mb.md": {"update(steps)": "update(400)", "range(3)": "range(1)"},
}


def blocks(page: str, language: str) -> list[str]:
    text = (FOLDER / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def run(page: str, program: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(program, page, "exec"), {"__name__": "tutorial"})
    printed = capsys.readouterr().out
    at = 0
    for block in blocks(page, "text"):
        at = printed.find(block, at)
        assert at >= 0, f"{page} says {block!r}, printed was {printed!r}"


def test_all_pages_are_run() -> None:
    assert {path.name for path in FOLDER.glob("*.md")} == set(SHORTER)


@pytest.mark.parametrize("page", SHORTER)
def test_page(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    program = "\n".join(blocks(page, "python"))
    for words, shorter in SHORTER[page].items():
        assert words in program
        program = program.replace(words, shorter)
    run(page, program, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("page", SHORTER)
def test_whole_page(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(page, "\n".join(blocks(page, "python")), capsys)
