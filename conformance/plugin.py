"""Options for pytest: ``pytest --pyargs revrnn.conformance.suite --revrnn-adapter NAME``."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what ``python -m revrnn.conformance`` takes."""
    group = parser.getgroup("revrnn", "conformance of a port of revrnn")
    group.addoption("--revrnn-adapter", help="package:factory, an entry point, numpy, torch or jax")
    group.addoption("--revrnn-command", help="a program that speaks CONF-003")
    group.addoption("--revrnn-judge", help="who is right about random requests; as the adapter")
    group.addoption("--revrnn-profile", action="append", help="judge this profile (repeatable)")
    group.addoption(
        "--revrnn-examples",
        type=int,
        default=20,
        help="random requests an operation, and as many with faults",
    )
    group.addoption("--revrnn-seed", type=int, default=0, help="of the random requests")
    group.addoption("--revrnn-timeout", type=float, default=30.0, help="seconds for one answer")
