"""Run mypy on the installed package, tests and benchmarks, and see that it checked something.

Arguments go to mypy.
"""

from __future__ import annotations

import re
import subprocess
import sys

from folders import FOLDERS, ROOT


def verdict(status: int, output: str, expected: int) -> int:
    """Return mypy's exit status, or 1 if it passed on fewer files than ``expected``.

    ``mypy -p`` passes without a word on a package whose files it cannot find.
    """
    match = re.search(r"no issues found in (\d+) source file", output)
    if status == 0 and (match is None or int(match[1]) < expected):
        print(f"mypy checked {match[1] if match else 'no'} files, but there are {expected}")
        return 1
    return status


def main() -> int:
    """Check the installed package, then the rest, and return the exit status."""
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")]
    # One for all: most of the time goes to the frameworks' types, which are the same.
    command += ["--cache-dir", str(ROOT / ".mypy_cache"), *sys.argv[1:]]
    package = sum(len(list((ROOT / folder).rglob("*.py"))) for folder in FOLDERS)
    status = 0
    runs = [(ROOT / "tests", ["-p", "revrnn"], package)]
    for folder in (ROOT / "tests", ROOT / "benchmarks", ROOT / "ports"):
        programs = sorted(path.name for path in folder.glob("*.py"))
        runs.append((folder, ["--explicit-package-bases", *programs], len(programs)))
    for folder, what, expected in runs:
        # In the root, `spec` and its neighbours would be found as packages of their own.
        process = subprocess.run(
            [*command, *what], cwd=folder, capture_output=True, text=True, check=False
        )
        print(process.stdout, process.stderr, sep="")
        status = max(status, verdict(process.returncode, process.stdout, expected))
    return status


if __name__ == "__main__":
    sys.exit(main())
