"""Asking mutants of JAX's scan: in one process, operation by operation without ``jit``.

A fork would lack JAX's threads, and whatever is compiled is compiled once for a process. What the
port as it is calls each of its functions with is kept: a mutant is asked only requests of which a
call of the changed function comes out differently (:mod:`.calls`).
"""

from __future__ import annotations

import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import cache
from importlib import import_module
from typing import Any, Final

from .ask_python import FILES, METHODS, PACKAGES, Given, implementations
from .asking import AT_ONCE, PROFILES, Asking, prepare_questions
from .calls import Calls
from .placing import place
from .reach import Request

_PACKAGE: Final = PACKAGES["jax"]
# Seconds of its own work, for one request and what is compiled for it, after which it has no end.
_LIMIT: Final = 60
# Bytes beyond what the port as it is has taken.
_MEMORY: Final = 4 << 30


class _TooLate(BaseException):
    """Raised in a mutant that does not end: no :class:`Exception`, which counts as an answer."""


def passes() -> bool:
    """Load everything, and say whether the port passes as it is."""
    return _loaded()[2]


def verdict(given: Given) -> str:
    """Return what notices a mutant: ``vectors``, ``random``, ``time`` (no end) or ``""``."""
    asking, calls, _ = _loaded()
    before = signal.signal(signal.SIGPROF, _too_late)
    try:
        return asking.verdict(given.file, _asked(asking, calls, given))
    except _TooLate:
        return "time"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _too_late(*_: object) -> None:
    raise _TooLate


@cache
def _loaded() -> tuple[Asking, Calls, bool]:
    """Load the port and ask it; return what asks, all calls, and whether answers are right."""
    prepare_questions()
    import_module(f"{_PACKAGE}.evaluate")
    # Of no use without jit, and each operation would be compiled once more for it.
    isolate: Any = sys.modules[f"{_PACKAGE}.isolate"]
    isolate._inlineable = lambda answer: nullcontext()
    asking = Asking(PROFILES, len(METHODS["jax"]))
    calls = Calls(tuple(f"{_PACKAGE}.{file}" for file in FILES["jax"]))
    with calls.noted():
        right = asking.learn(implementations("jax"), calls.note)
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (_taken() + _MEMORY, most))
    return asking, calls, right


def _taken() -> int:
    """Return the bytes of memory that this process has set aside, as RLIMIT_DATA counts them."""
    with open("/proc/self/statm", encoding="ascii") as numbers:
        return int(numbers.read().split()[5]) * resource.getpagesize()


def _asked(asking: Asking, calls: Calls, given: Given) -> int:
    """Return the place of the request that notices a mutant, as :meth:`Asking.noticed` does."""
    name = f"{_PACKAGE}.{given.file}"
    with ExitStack() as stack:
        try:
            change = calls.change(name, given.source, given.line)
            if change is None:
                stack.enter_context(_modules_as_they_are())
                place(name, given.source)
                sees: Callable[[Request], bool] = bool  # any request
            else:
                sees = stack.enter_context(calls.changed(name, change))
        except Exception:
            return AT_ONCE

        def in_time(request: Request) -> bool:
            signal.setitimer(signal.ITIMER_PROF, _LIMIT)
            with _as_in_requests():
                return sees(request)

        return asking.noticed(implementations("jax"), given.file, in_time)


@contextmanager
def _as_in_requests() -> Iterator[None]:
    """Set JAX as it is while a request is answered."""
    jax: Any = sys.modules["jax"]
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"), jax.disable_jit():
        yield


@contextmanager
def _modules_as_they_are() -> Iterator[None]:
    """Allow the port's modules to be executed again, and put back what there was."""
    jax: Any = sys.modules["jax"]
    names = [name for name in sys.modules if name.startswith(f"{_PACKAGE}.")]
    before = {name: dict(vars(sys.modules[name])) for name in names}
    # A type can be registered once, and JAX knows what it compiled by contexts too.
    kinds = [f"register_{kind}_serialization" for kind in ("pytree_node", "namedtuple")]
    replaced = {kind: getattr(jax.export, kind) for kind in kinds}
    context = jax.make_user_context
    try:
        for kind in kinds:
            setattr(jax.export, kind, lambda *given, **named: None)
        jax.make_user_context = lambda default: sys.modules[f"{_PACKAGE}.engines"]._context
        yield
    finally:
        jax.make_user_context = context
        for kind, function in replaced.items():
            setattr(jax.export, kind, function)
        for name, variables in before.items():
            vars(sys.modules[name]).clear()
            vars(sys.modules[name]).update(variables)
