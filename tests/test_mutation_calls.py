"""Which requests may see a change, by what functions are called with (``nox -s mutants``, JAX)."""

from __future__ import annotations

import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mutation.calls import Calls
from mutation.digests import Digests
from mutation.placing import source_of

from revrnn.config import Config

TEXT = """
from functools import cache
from typing import NamedTuple

STEP = 3
DOUBLE = 2 * STEP
LIMIT = 10
chosen = 1

class Pair(NamedTuple):
    a: int
    b: int

    def total(self):
        return self.a + self.b

def choose(value):
    global chosen
    chosen = value

def by_choice(x):
    return x * chosen

@cache
def limited(x):
    def within(x, most=7):
        return x if x < LIMIT else LIMIT
    return within(x)

def applied(function, x):
    return function(x) + 1

def positive(x):
    if x < 0:
        raise ValueError("negative")
    return x

def entry(x):
    if x < 0:
        return positive(x)
    choose(x)
    if x > 100:
        return applied(limited, x)
    return limited(x) + by_choice(1) + Pair(x, 1).total()
"""
NAME = "text_of_calls"


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The calls of three requests: of 4, of 20, and of 200, and of one that fails."""
    (tmp_path / f"{NAME}.py").write_text(TEXT, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    source_of.cache_clear()
    module: Any = import_module(NAME)
    made = Calls((NAME,))
    with made.noted():
        for x in (4, 20, 200):
            made.note((f"of {x}", 0), partial(module.entry, x))

        def fails() -> None:
            with pytest.raises(ValueError, match="negative"):
                module.entry(-1)

        made.note(("of -1", 0), fails)
    yield made
    source_of.cache_clear()


REQUESTS = ("of 4", "of 20", "of 200", "of -1")


def seen(calls: Calls, before: str, after: str, line: str = "") -> set[str] | None:
    """Return the requests that may see a change, ``None`` if the file has to be executed."""
    at = TEXT.splitlines().index(line or before) + 1
    change = calls.change(NAME, TEXT.replace(before, after), at)
    if change is None:
        return None
    with calls.changed(NAME, change) as sees:
        return {name for name in REQUESTS if sees((name, 0))}


IN = "        return x if x < LIMIT else LIMIT"


def test_a_change_is_seen_by_requests_with_a_call_that_comes_out_differently(calls: Calls) -> None:
    assert seen(calls, IN, IN.replace("x < LIMIT", "x <= LIMIT")) == set()
    assert seen(calls, IN, IN.replace("x if", "x + 1 if")) == {"of 4"}
    assert seen(calls, IN, IN.replace("else LIMIT", "else 11")) == {"of 20", "of 200"}
    assert seen(calls, IN, IN.replace("x < LIMIT", "1 / 0")) == {"of 4", "of 20", "of 200"}
    total = "        return self.a + self.b"
    assert seen(calls, total, total.replace("+", "-")) == {"of 4", "of 20"}
    assert seen(calls, total, "        return self.b + self.a") == set()


def test_calls_that_cannot_be_kept_are_asked(calls: Calls) -> None:
    for line, requests in {
        "    chosen = value": {"of 4", "of 20", "of 200"},  # returns nothing
        "    return function(x) + 1": {"of 200"},  # takes a function
        "    if x < 0:": {"of -1"},  # fails
    }.items():
        assert seen(calls, line, line + "  # ") == requests


def test_what_functions_set_is_taken_with_the_arguments(calls: Calls) -> None:
    line, module = "    return x * chosen", sys.modules[NAME]
    before = module.chosen
    assert seen(calls, line, "    return x * (chosen if chosen == 4 else 0)") == {"of 20"}
    assert seen(calls, line, "    return chosen * x") == set()
    assert module.chosen == before


def test_a_constant_is_tried_in_functions_unless_more_depends_on_it(calls: Calls) -> None:
    assert seen(calls, "LIMIT = 10", "LIMIT = 11") == {"of 20", "of 200"}
    assert seen(calls, "LIMIT = 10", "LIMIT = 4 + 6") is None
    assert seen(calls, "STEP = 3", "STEP = 4") is None
    assert seen(calls, "DOUBLE = 2 * STEP", "DOUBLE = 3 * STEP") == set()
    with pytest.raises(ZeroDivisionError):
        seen(calls, "LIMIT = 10", "LIMIT = 1 // 0")


def test_everything_is_as_it_was_after_a_change(calls: Calls) -> None:
    module: Any = sys.modules[NAME]
    assert module.limited(5) == 5
    for before, after in ((IN, "        return 0"), ("LIMIT = 10", "LIMIT = 2")):
        at = TEXT.splitlines().index(before) + 1
        change = calls.change(NAME, TEXT.replace(before, after), at)
        assert change is not None
        with calls.changed(NAME, change):
            assert module.limited(5) in (0, 2)
        assert module.limited(5) == 5


def test_digests_tell_values_apart() -> None:
    made = Config("revgru", 3, 4, max_forget_bits=3)
    values: list[Any] = [
        *(0, 0.0, -0.0, False, None, "", b"", (), [], {}, (0,), ((),), {0: 1}, {1: 0}),
        *(np.int32(0), np.int64(0), np.zeros(1, np.int32), np.zeros((1, 1), np.int32)),
        *(np.zeros(1, np.float32), np.dtype(np.float32)),
        *(jnp.int32(0), jnp.asarray(0), jnp.zeros(1, jnp.int32), jnp.zeros(1, jnp.bool_)),
        *(np.dtype(np.int32), made, Config("revgru", 3, 4, max_forget_bits=2)),
    ]
    digests = Digests()
    assert len({digests.of(value) for value in values}) == len(values)
    assert digests.of(Config("revgru", 3, 4, max_forget_bits=3)) == digests.of(made)
    assert digests.of((np.arange(3), {"a": 1})) == Digests().of((np.arange(3), {"a": 1}))


def test_there_is_no_digest_of_what_cannot_be_told_apart() -> None:
    taken: list[bytes] = []

    def traced(x: jax.Array) -> jax.Array:
        taken.append(Digests().of((x, 1)))
        return x

    jax.eval_shape(traced, jnp.zeros(2))
    assert taken == [b""]
    assert Digests().of({"a": [traced]}) == b""
