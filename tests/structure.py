"""Check who imports whom, and draw it: ``python tests/structure.py`` writes docs/structure.md.

With ``--check`` nothing is written; the page may lag behind by a few lines of code and a few
imports, but not by a file, an arrow or a question. The packages are laid out as they are installed,
whatever is installed here.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from folders import ROOT, project

PAGE = "docs/structure.md"
IMPLEMENTATIONS = ("numpy_ref", "torch_impl", "jax_impl")
# How far a number on the page may be off: so many, or this part of it.
SLACK, PART = 30, 0.2

HEAD = """# Structure

Written by `nox -s structure`, which also checks who may import whom (`[tool.importlinter]` in
pyproject.toml). `spec` is the law and `numpy_ref` the oracle; `vector_maker` asks the oracle and
the `second_opinion` and writes the vectors; `conformance` asks ports. `torch_impl` and `jax_impl`
are what is used, with kernels for both below (`native`, `gpu`) and the `experiments` above.

## Who imports whom

An arrow says how many imports of one file by another there are between two folders.

"""
TABLE = """
## The implementations side by side

What each file answers, and how many lines it has in each implementation. Files of one name answer
one question.

"""


def lay_out(root: Path, tree: Path) -> None:
    """Copy every package's Python files to where an installation has them."""
    for package, folder in packages(root).items():
        inside = tree.joinpath(*package.split("."))
        inside.mkdir(parents=True, exist_ok=True)
        for path in (root / folder).glob("*.py"):
            shutil.copy(path, inside)
    shutil.copy(root / "pyproject.toml", tree)


def packages(root: Path) -> dict[str, str]:
    """Return the folder of each package."""
    folders: dict[str, str] = project(root)["tool"]["setuptools"]["package-dir"]
    return folders


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    """Hold the contracts against the packages of a tree."""
    program = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        check=False,
    )


def arrows(tree: Path, root: Path) -> Counter[tuple[str, str]]:
    """Return how many imports of one file by another there are between two folders."""
    import grimp  # a tool of this program alone

    assert "revrnn" not in sys.modules, "another revrnn is imported already"
    sys.path.insert(0, str(tree))
    graph = grimp.build_graph("revrnn", cache_dir=None)
    sys.path.remove(str(tree))
    folders = {package: folder.split("/")[0] for package, folder in packages(root).items()}

    def folder_of(module: str) -> str:
        while module not in folders:
            module = module.rpartition(".")[0]
        return folders[module]

    pairs = (
        (folder_of(module), folder_of(imported))
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
    )
    return Counter(pair for pair in pairs if pair[0] != pair[1])


def drawing(counts: Counter[tuple[str, str]]) -> str:
    """Return the graph of imports in the language of Mermaid."""
    lines = [f"    {a} -- {count} --> {b}" for (a, b), count in sorted(counts.items())]
    return "\n".join(["```mermaid", "graph TD", *lines, "```", ""])


def contracts(root: Path) -> str:
    """Return the names of the contracts as a list."""
    names = [contract["name"] for contract in project(root)["tool"]["importlinter"]["contracts"]]
    return "\n".join(
        [
            "",
            "What is checked; so the law imports none of the others:",
            "",
            *(f"- {name}." for name in names),
            "",
        ]
    )


def side_by_side(root: Path) -> str:
    """Return the table of files, questions and lines."""
    rows: dict[str, dict[str, Path]] = {}
    for folder in IMPLEMENTATIONS:
        for path in (root / folder).rglob("[!_]*.py"):
            rows.setdefault(path.relative_to(root / folder).as_posix(), {})[folder] = path
    # What all have comes first, and a folder's files stay together.
    names = sorted(rows, key=lambda name: (-len(rows[name]), name.count("/"), name))
    lines = [
        f"| file | what it answers | {' | '.join(IMPLEMENTATIONS)} |",
        "|---|---|" + "---:|" * 3,
    ]
    for name in names:
        paths = rows[name]
        cells = [lines_of(paths[folder]) if folder in paths else "–" for folder in IMPLEMENTATIONS]
        question = question_of(next(iter(paths.values())))
        lines.append(f"| `{name}` | {question} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def lines_of(path: Path) -> str:
    """Return the number of a file's lines."""
    return str(len(path.read_text(encoding="utf-8").splitlines()))


def question_of(path: Path) -> str:
    """Return the first line of a file's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    line = text.partition("\n")[0].replace("``", "`").replace("|", "\\|")
    return re.sub(r":\w+:`[~.]*([^`]*)`", r"`\1`", line).rstrip(".")


def page(root: Path, tree: Path) -> str:
    """Return the page."""
    return HEAD + drawing(arrows(tree, root)) + contracts(root) + TABLE + side_by_side(root)


def stale(written: str, due: str) -> list[str]:
    """Return the lines in which a page differs from what is due by more than the slack."""
    numbers = re.compile(r"(?<=-- )\d+(?= -->)|(?<=\| )\d+(?= \|)")
    before = {numbers.sub("", line): numbers.findall(line) for line in written.splitlines()}
    after = {numbers.sub("", line): numbers.findall(line) for line in due.splitlines()}
    lines = [line for line in after if line not in before]
    lines += [f"{line} (no longer due)" for line in before if line not in after]
    for line in (line for line in after if line in before):
        for old, new in zip(before[line], after[line], strict=True):
            if abs(int(old) - int(new)) > max(SLACK, PART * int(new)):
                lines.append(f"{line} ({old}, {new} are due)")
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Check the contracts; write the page or compare it; return 1 if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; compare the page")
    parser.add_argument("--root", type=Path, default=ROOT, help="of the repository")
    options = parser.parse_args(arguments)
    path = options.root / PAGE
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        lay_out(options.root, tree)
        checked = lint(tree)
        print(checked.stdout, checked.stderr, sep="")
        text = page(options.root, tree)
    if options.check:
        lines = stale(path.read_text(encoding="utf-8") if path.is_file() else "", text)
        if lines:
            print(f"{PAGE} is out of date (nox -s structure writes it):", *lines, sep="\n  ")
        return 1 if lines or checked.returncode else 0
    path.write_text(text, encoding="utf-8")
    return checked.returncode


if __name__ == "__main__":
    sys.exit(main())
