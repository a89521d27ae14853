"""Native kernels that are interpreted for the mutation of implementations (``nox -s mutants``)."""

from __future__ import annotations

import ctypes
import faulthandler
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from mutation import ask_native
from mutation.ask_python import Given, text_of
from mutation.asking import AT_ONCE, in_a_process
from mutation.fenced import FencedNumPy
from mutation.interpreting import interpreted, put, wide
from mutation.kernel_lines import Question, folder, span

from revrnn.native import processor

TEXT = """
@inner
def numbers(shorts, ints, real, floats, out):
    out[0] = shorts[0] * shorts[1]
    out[1], out[2] = ints[0] + ints[1], i32(ints[0] + ints[1])
    out[3] += ints[0] * ints[0]
    shorts[1] = ints[0]
    out[4] = -7 // shorts[2] + (-7 >> 1) + -7 % shorts[2]
    floats[0] = real * 0.1
    floats[1] = real * real
    for i in range(2):
        out[5 + i] = shorts[i] << 20
    return real * 0.1
"""


def arrays() -> tuple[Any, ...]:
    """Return numbers whose sums and products leave their types."""
    ints = np.array([2**31 - 1, 7], np.int32)
    shorts, floats = np.array([32512, 32512, 3], np.int16), np.zeros(2, np.float64)
    return shorts, ints, np.float32(1.1), floats, np.zeros(7, np.int64)


def test_numbers_are_those_of_compiled_functions() -> None:
    """Narrow integers are widened, cut where they are stored; floats of the text are float64."""
    results = []
    names: dict[str, Any] = {"i32": np.int32, "inner": numba.njit(error_model="numpy")}
    plain: dict[str, Any] = {"i32": lambda v: np.int64((int(v) + 2**31) % 2**32 - 2**31)}
    plain |= {"inner": lambda f: f, "_wide": wide, "_put": put, "_real": np.float64}
    exec(TEXT, names)
    exec(interpreted(TEXT, "text of a test"), plain)
    for scope in (names, plain):
        given = arrays()
        results.append((scope["numbers"](*given), *given))
    for compiled, own in zip(*results, strict=True):
        np.testing.assert_array_equal(compiled, own)


# A process of its own: kernels are imported anew.
ASKED = """
import sys
sys.path.insert(0, sys.argv[1])
from importlib import import_module
import torch
from mutation import ask_native
from mutation.ask_python import text_of
from mutation.asking import is_wrong
from mutation.questions import vectors

torch.set_num_threads(1)
import_module("revrnn.torch_impl.evaluate_native")
few = [*vectors("sequence_forward")[-8:], *vectors("sequence_gradient")[-8:]]
text = text_of("native", "arithmetic")
changed = text.replace("32768) >> 1", "32768) >> 2")
assert changed != text
for kind in sys.argv[2:]:
    lacking = ask_native._LACKING[kind]
    for source in (text, changed):
        with ask_native.kernels(ask_native._sources("arithmetic", source), lacking):
            asked = ask_native._imported()
            products = sys.modules["revrnn.native.products"]
            wrong = any([is_wrong(asked, one) for one in few])
            print(kind, source is text, wrong, products.KIND == "AMX", products.self_check())
"""


def test_interpreted_kernels_answer_rightly_and_a_change_is_noticed() -> None:
    """On this processor, on one that lacks what it has, with registers for tiles and without."""
    amx = "own" if processor.AMX else "AMX"
    kinds = [kind for kind in ask_native.KINDS if kind in ("own", amx, ask_native.KINDS[-1])]
    command = [sys.executable, "-c", ASKED, str(Path(__file__).parent), *kinds]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    wanted = [
        f"{kind} {same} {not same} {kind == amx} True" for kind in kinds for same in (True, False)
    ]
    assert done.stdout.splitlines() == wanted


def test_a_line_belongs_to_its_statement_or_to_the_head_of_one() -> None:
    source = "def f(a,\n      b):\n    if (a\n            < b):\n        c = [\n            1]\n"
    assert [span(source, line) for line in (1, 4, 6)] == [range(1, 3), range(3, 5), range(5, 7)]


@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # JAX's, where a test before has it
@pytest.mark.parametrize("make", [FencedNumPy.zeros, FencedNumPy.empty, FencedNumPy.ones])
def test_memory_ends_behind_an_array(make: Any) -> None:
    """Whoever reads its last byte goes on, whoever reads the next one does not."""

    def read(at: int) -> int:
        faulthandler.disable()  # pytest's own, which would print where that was
        array = make((3, 5), np.int16)
        assert array.shape == (3, 5)
        assert array.flags.c_contiguous
        return len(ctypes.string_at(array.ctypes.data + at, 1))

    assert in_a_process(partial(read, 29)) == 1
    assert in_a_process(partial(read, 30)) == AT_ONCE


def test_what_is_not_written_is_seen() -> None:
    assert np.isnan(FencedNumPy.empty(3, np.float32)).all()
    assert FencedNumPy.empty(3, np.int32).all()
    assert FencedNumPy.full((2, 2), 7, np.int64).tolist() == [[7, 7], [7, 7]]
    assert FencedNumPy.zeros((0, 3), np.int32).shape == (0, 3)


def test_small_requests_come_first_and_then_large_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that come to the line; first by other ways through the file; long ones never."""
    monkeypatch.setattr(ask_native, "_FEW", 2)
    path = str(folder() / "copies.py")
    source = text_of("native", "copies").splitlines()
    here = (path, 1 + next(n for n, line in enumerate(source) if "h[b, i] = 0" in line))
    both, one = frozenset({here, (path, 1)}), frozenset({here})
    questions = [
        *(Question("vectors", "slow", 9.0, one), Question("vectors", "other", 0.1, frozenset())),
        *(Question("vectors", f"{n}", n / 10, one) for n in (1, 2, 3)),
        Question("random", "both", 0.5, both),
    ]
    chosen = ask_native._chosen(questions, Given("native", "copies", "", here[1]))
    assert [question.name for question in chosen] == ["1", "both", "3", "2"]
