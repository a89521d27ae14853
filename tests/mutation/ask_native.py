"""Asking mutants of the native kernels, which are interpreted (:mod:`.interpreting`).

The port as it is answers everything first, once for each kind of processor, and the lines that each
request and each test come to are noted. A mutant lives in a forked process, which imports the
kernels anew. It is asked a few small requests that come to the changed statement, each by another
way through the file, then large ones for some seconds, and put to the tests that come there.
"""

from __future__ import annotations

import os
import pickle
import re
import sys
import time
from collections import Counter
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch

from revrnn.native import processor

from .ask_python import PACKAGES, Given, text_of
from .asking import AT_ONCE, Asking, in_a_process, is_wrong, prepare_questions, put_first
from .interpreting import fence_users, forget_kernels, kernels
from .kernel_lines import Lines, Noted, Question, Tests, folder, span
from .reach import outermost_at

_PACKAGE: Final = PACKAGES["native"]
_ASKING: Final = Asking(("cell", "sequence", "gradient"))
# Kinds of processor: this one as it is, the same with registers for tiles that Python stands in
# for (:mod:`.tile_registers`), those with less, and those of which nothing is known.
_LACKING: Final = {
    "own": {},
    "AMX": {"AMX": True},
    "AVX-512": {"AMX": False},
    "AVX2": {"AMX": False, "WIDE": False},
    "SSE": {"AMX": False, "WIDE": False, "MIDDLE": False},
    "not x86": {"AMX": False, "WIDE": False, "MIDDLE": False, "X86": False},
}
KINDS: Final = tuple(
    kind
    for kind, there in (
        ("own", True),
        ("AMX", processor.WIDE and not processor.AMX),
        ("AVX-512", processor.AMX),
        ("AVX2", processor.WIDE),
        ("SSE", processor.X86 and processor.MIDDLE),
        ("not x86", processor.X86),
    )
    if there
)
# Names that say that a file's code depends on it.
_DEPENDS: Final = re.compile(r"\b(AMX|WIDE|X86|LANES|PANEL|TALL|VECTORS)\b")
_OF_PRODUCTS: Final = (
    "native_products.py::test_products",
    "native_products.py::test_any_few_rows",
    "native_products.py::test_a_bound_of_two_to_the_31",
    "native_products.py::test_a_check_notices_one_wrong_number",
    "native_products.py::test_sums_that_no_int32_holds",
    "native_products.py::test_room_begins_where_a_tile_is_best_read",
    "native_float_products.py",
)
_OTHERS: Final = (
    "engines.py::test_modules_agree_with_the_eager_engine",
    "engines.py::test_threads_change_nothing[RevGRU-helpers]",
    "engines.py::test_threads_change_nothing[RevLSTM-helpers]",
    "engines.py::test_gradients_of_the_last_state_alone",
    "engines.py::test_gradients_through_wide_layers",
    "engines.py::test_large_stacks[revgru-(2, 6, 90)-usual]",
    "engines.py::test_large_stacks[revgru-(70, 90, 3)-usual]",
    "engines.py::test_streaming_by_each_engine",
    "engines.py::test_sums_at_the_edge_of_int32",
    "engines.py::test_biases_alone",
    "native_sums.py",
    "native_processor.py",
    "torch_options.py::test_resets_are_segments",
    "native_handlers.py",
    "native_frames.py",
    "native_weights.py",
    "native_memory.py::test_chunks_that_go_together_give_the_same_bits",
)
# Tests that are run, by kind of processor.
_TESTS: Final = {
    kind: _OF_PRODUCTS + (_OTHERS if kind == "own" else ())
    for kind in KINDS
    if kind in ("own", "AMX", "AVX2")
}
# Files that registers for tiles alone make use of.
_OF_TILES: Final = ("amx", "byte_products", "float_parts", "float_tiles", "float_products")
# A request that takes more seconds of the port as it is is left out; all requests that a mutant is
# asked of a kind takes no more of it.
_LONG: Final = 2.0
_ALL: Final = 12.0
# So many small requests come first.
_FEW: Final = 8
# In the place of a request's, that a test notices a mutant.
_TEST: Final = -3


def _sources(changed: str = "", text: str = "") -> dict[str, str]:
    files = [path.stem for path in sorted(folder().glob("[!_]*.py"))]
    given = {file: text_of("native", file) for file in files if file not in ("threads", "atomics")}
    if changed:
        given[changed] = text
    return {f"{_PACKAGE}.{file}": source for file, source in given.items()}


def _imported() -> Any:
    """Import the kernels and what uses them; return the implementation that is asked."""
    sys.modules["revrnn.torch_impl.engines"]._engine.cache_clear()
    engine: Any = import_module("revrnn.torch_impl.native.engine")
    engine._fault = lambda: None  # the check at the beginning would notice before any request
    for name in ("work", "conversions"):
        import_module(f"revrnn.torch_impl.native.{name}")
    fence_users()
    return sys.modules["revrnn.torch_impl.evaluate_native"].IMPLEMENTATION


def _wrong(implementation: Any, place: int) -> bool:
    return is_wrong(implementation, _ASKING.puts("")[place].asked)


def _tested(names: list[str], *plugins: Any) -> bool:
    """Run tests, and return whether one fails; tests that are not there, any more, do not."""
    for name in [n for n in sys.modules if n.startswith("test_") or n == "conftest"]:
        del sys.modules[name]
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-m", "not slow"]
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    codes = pytest.ExitCode
    nothing_said = (codes.OK, codes.USAGE_ERROR, codes.NO_TESTS_COLLECTED)
    return pytest.main([*options, *names], plugins=list(plugins)) not in nothing_said


@cache
def learned(kind: str) -> tuple[list[Question], bool]:
    """Ask the port as it is on a kind of processor; return all questions, and if it is right."""
    questions, right = list[Question](), True
    with kernels(_sources(), _LACKING[kind]):
        implementation = _imported()
        for place, put in enumerate(_ASKING.puts("")):
            began = time.process_time()
            with Noted() as noted:
                right &= not _wrong(implementation, place)
            seconds = time.process_time() - began
            questions.append(Question(put.kind, place, seconds, frozenset(noted.lines)))
    forget_kernels()
    return questions, right


@cache
def learned_tests(kind: str) -> list[Question]:
    """Return the tests that the port as it is passes, interpreted."""
    told, tell = os.pipe()
    if os.fork() == 0:
        tests, here = Tests(), Path(__file__).parents[1]
        with kernels(_sources(), _LACKING[kind]):
            _imported()
            _tested([str(here / f"test_{name}") for name in _TESTS[kind]], tests)
        with os.fdopen(tell, "wb") as file:
            pickle.dump((tests.noted, tests.failed), file)
        os._exit(0)
    os.close(tell)
    with os.fdopen(told, "rb") as file:
        noted, failed = pickle.load(file)
    os.wait()
    return [test for test in noted if test.name not in failed]


def passes() -> bool:
    """Load everything, and say whether the port passes as it is."""
    # PyTorch's threads do not survive a fork; numbers wrap as in compiled code.
    torch.set_num_threads(1)
    np.seterr(all="ignore")
    prepare_questions(_ASKING.profiles)
    import_module("revrnn.torch_impl.evaluate_native")
    return all(learned(kind)[1] for kind in KINDS) and all(map(learned_tests, _TESTS))


def _chosen(questions: list[Question], given: Given) -> list[Question]:
    """Return what comes to a change: small ones by different ways through its file, then large."""
    source, path = text_of("native", given.file), str(folder() / f"{given.file}.py")
    lines = {(path, line) for line in span(source, given.line)}
    if not outermost_at(source, given.line) or not any(lines & q.lines for q in questions):
        lines = set()  # run where it is imported: whatever runs may see it
    times, order = Counter[Lines](), list[tuple[int, Question]]()
    for question in sorted(questions, key=lambda question: question.seconds):
        here = frozenset(one for one in question.lines if one[0] == path)
        short = question.seconds < _LONG or question.kind == "tests"
        if short and (lines & here if lines else question.lines):
            times[here] += 1
            order.append((times[here], question))
    chosen = [question for _, question in sorted(order, key=lambda o: (o[0], o[1].seconds))]
    return chosen[:_FEW] + sorted(chosen[_FEW:], key=lambda question: -question.seconds)


def verdict(given: Given) -> str:
    """Return what notices a mutant: ``vectors``, ``random``, ``tests``, ``time`` or ``""``."""
    kinds = KINDS if _DEPENDS.search(text_of("native", given.file)) else KINDS[:1]
    if given.file in _OF_TILES:
        kinds = ("own",) if processor.AMX else ("AMX",)
    for kind in kinds:
        told = _forked(kind, given, learned(kind)[0])
        if told:
            return told
    for kind in kinds:
        told = _forked(kind, given, learned_tests(kind)) if kind in _TESTS else ""
        if told:
            return told
    return ""


_early: Final[dict[tuple[str, str], list[Any]]] = {}


def _forked(kind: str, given: Given, questions: list[Question]) -> str:
    questions = _chosen(questions, given)
    if not questions:
        return ""
    early = _early.setdefault((kind, given.file), [])
    questions.sort(key=lambda q: early.index(q.name) if q.name in early else len(early))
    place = in_a_process(partial(_asked, kind, given, questions))
    if place is None:
        return "time"
    if place < 0:
        return {AT_ONCE: "vectors", _TEST: "tests"}.get(place, "")
    noticed = questions[place]
    put_first(early, noticed.name)
    del early[12:]
    return noticed.kind


def _asked(kind: str, given: Given, questions: list[Question]) -> int:
    """Return the place of what notices a mutant, -1 if nothing does, or :data:`_TEST`."""
    with kernels(_sources(given.file, given.source), _LACKING[kind]):
        try:
            implementation = _imported()
        except Exception:
            return AT_ONCE
        left = _ALL
        for place, question in enumerate(questions):
            left -= question.seconds
            if question.kind != "tests" and left > 0 and _wrong(implementation, question.name):
                return place
        tests = [q for q in questions if q.kind == "tests"]
        tests = sorted(tests, key=lambda question: question.seconds)
        here = Path(__file__).parents[1]
        names = ["-x", *(str(here.parent / str(q.name)) for q in tests)]
        return _TEST if tests and _tested(names) else -1
