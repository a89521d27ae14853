"""The judge: any implementation that says what is due where there is no vector.

Runner, random requests and shrinking get theirs handed in. The name of the usual one stands here
alone; the command lines, the plugin and pasted programs take it from here.
"""

from __future__ import annotations

from typing import Final

from revrnn.evaluation import IMPLEMENTATIONS, Implementation, load

from .adapters import find

USUAL: Final = "numpy"
# Where the law and the suite lie alone, as in the archive for porters.
ABSENT: Final = (
    f"no judge: {IMPLEMENTATIONS[USUAL].rpartition('.')[0]} is not here; only the vectors are asked"
)


def judge_of(name: str | None = None) -> Implementation | None:
    """Return the implementation that judges, or ``None`` if the usual one is not installed.

    Args:
        name: another one, as ``--adapter`` takes it.

    Raises:
        RevRNNError: ``E_ARGUMENT`` if there is none of that name.
    """
    if name is not None:
        return find(name, "judge")
    try:
        return load(USUAL)
    except ModuleNotFoundError:
        return None
