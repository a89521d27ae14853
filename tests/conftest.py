"""Profiles, fixtures and the record of which rules have tests."""

from __future__ import annotations

import gc
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, Verbosity, settings

from folders import ROOT
from revrnn.evaluation import Implementation, load

# Every field is set: under CI=true a profile would otherwise inherit other defaults.
_COMMON: dict[str, Any] = {
    "deadline": None,
    "database": None,
    "verbosity": Verbosity.normal,
    "phases": tuple(Phase),
    "stateful_step_count": 50,
    "report_multiple_bugs": False,
    "suppress_health_check": (HealthCheck.too_slow, HealthCheck.data_too_large),
    "backend": "hypothesis",
    "print_blob": True,
}
settings.register_profile("usual", max_examples=25, derandomize=True, **_COMMON)
settings.register_profile("long", max_examples=200, derandomize=True, **_COMMON)
settings.register_profile("deep", max_examples=2000, derandomize=False, **_COMMON)
settings.load_profile(os.environ.get("REVRNN_HYPOTHESIS_PROFILE", "usual"))

OTHERS = ("naive", "torch", "jax")

# What tracing and compiling make is kept; looking through it for garbage took a tenth of the time.
gc.set_threshold(50_000, 20, 20)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add options that choose tests by what they show."""
    parser.addoption("--rule", action="append", help="only tests of this rule (repeatable)")
    parser.addoption("--implementation", help="only tests that are not of another implementation")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what the options do not ask for."""
    rules, name = config.getoption("--rule"), config.getoption("--implementation")
    kept = [item for item in items if concerns(item, rules, name)]
    if len(kept) < len(items):
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept


def concerns(item: pytest.Item, rules: list[str] | None, implementation: str | None) -> bool:
    """Say whether a test has one of the rules and is not of another implementation."""
    marked = {name for mark in item.iter_markers("rule") for name in mark.args}
    if rules is not None and not marked & set(rules):
        return False
    if implementation is None:
        return True
    others = {"numpy", *OTHERS} - {implementation}
    words = set(re.split(r"[^a-z]+", item.name.partition("[")[2].lower()))
    words |= set(item.path.stem.split("_"))
    return implementation in words or not words & others


@pytest.fixture(scope="session")
def oracle() -> Implementation:
    """The NumPy implementation, which every other one is compared with."""
    return load("numpy")


@pytest.fixture(scope="session", params=OTHERS)
def other(request: pytest.FixtureRequest) -> Implementation:
    """Each of the other implementations."""
    return load(request.param)


@pytest.fixture(scope="session", params=("numpy", *OTHERS))
def implementation(request: pytest.FixtureRequest) -> Implementation:
    """Each implementation."""
    return load(request.param)


@pytest.fixture(scope="session", autouse=True)
def _neighbours_are_not_packages() -> None:
    """Take the folder that holds the checkout out of the path.

    pytest takes the checkout for a package, for its ``__init__.py``, and puts its parent first: a
    neighbour called ``jax`` would be imported for JAX.
    """
    parent = str(ROOT.parent)
    while parent in sys.path:
        sys.path.remove(parent)


@pytest.fixture(scope="module", autouse=True)
def _let_compiled_programs_go() -> Iterator[None]:
    """Let go of what JAX compiled for a file.

    Every program takes some of the parts that a process's memory may have (65,530 on Linux); beyond
    them XLA crashes.
    """
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
