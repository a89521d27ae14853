"""The judge: any implementation that says what is due where there is no vector.

Runner, random requests and shrinking get theirs handed in. The name of the usual one stands here
alone; the command lines, the plugin and pasted programs take it from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from revrnn.errors import RevRNNError
from revrnn.evaluation import IMPLEMENTATIONS, Implementation, load
from revrnn.operations import OPERATIONS

from .adapters import Fault, Question, evaluated, find
from .life import PortError
from .profiles import PROFILES

USUAL: Final = "numpy"
# Layouts of random requests; bigint is for oracles (BUF-037).
ASKED: Final = ("stream", "wordlist")
# Where the law and the suite lie alone, as in the archive for porters.
ABSENT: Final = (
    f"no judge: {IMPLEMENTATIONS[USUAL].rpartition('.')[0]} is not here; only the vectors are asked"
    " (revrnn-judge.zip and pip install revrnn bring it; --judge names another)"
)


def judge_of(name: str | None = None) -> Implementation | None:
    """Return the implementation that judges, or ``None`` if the usual one is not installed.

    Args:
        name: another one, as ``--adapter`` takes it.

    Raises:
        RevRNNError: ``E_ARGUMENT`` if there is none of that name, or it is no adapter.
    """
    if name is not None:
        return NamedJudge(find(name, "judge"))
    try:
        return load(USUAL)
    except ModuleNotFoundError:
        return None


class NamedJudge:
    """A judge of somebody's own: where it fails, that is no answer, and no fault of the port."""

    def __init__(self, judge: Implementation) -> None:
        """Take an adapter."""
        self._judge = judge
        self.name, self.layouts = judge.name, tuple(judge.layouts)
        self.profiles = tuple(getattr(judge, "profiles", PROFILES))

    def evaluate(self, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is due.

        Raises:
            PortError: if the judge does not answer as an implementation does.
        """
        results = evaluated(self._judge, Question(operation, arguments))
        if isinstance(results, Fault):
            said = results.detail.splitlines()[0]
            raise PortError(f"judge {self.name}: {operation}: {said}")
        return results


def offers(judge: Implementation, operation: str) -> bool:
    """Say whether a judge claims an operation; what it does not claim it cannot judge."""
    return OPERATIONS[operation].profile in getattr(judge, "profiles", PROFILES)


def layouts_of(judge: Implementation, offered: tuple[str, ...]) -> tuple[str, ...]:
    """Return the layouts of random requests: the port's, as far as the judge has them.

    Args:
        judge: who answers them too.
        offered: the port's layouts; where it has none of ``stream`` and ``wordlist``, it is asked
            for both.

    Raises:
        RevRNNError: ``E_ARGUMENT`` if the judge has none of them.
    """
    wanted = tuple(name for name in ASKED if name in offered) or ASKED
    layouts = tuple(name for name in wanted if name in judge.layouts)
    if not layouts:
        given = f"{judge.name} with layouts {', '.join(judge.layouts) or 'none'}"
        raise RevRNNError("E_ARGUMENT", "judge", given, f"one with {' or '.join(wanted)}")
    return layouts
