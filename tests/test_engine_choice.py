"""Which engine computes a sequence, and the reasons of those that refuse."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from revrnn import Config, RevRNNError
from revrnn.native import products
from revrnn.torch_impl import (
    compiled_steps,
    engine,
    engine_plan,
    product_method,
    rev_rnn,
    set_engine,
)

REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "wordlist": ({"buffer": "wordlist"}, "wordlist"),
    "wordlist, two layers": ({"buffer": "wordlist", "num_layers": 2}, "wordlist"),
}
TAKEN: dict[str, dict[str, Any]] = {
    "usual": {},
    "layers": {"num_layers": 3},
    "no limit": {"max_forget_bits": None},
    "limit": {"max_forget_bits": 7},
    "slices": {"slice_size": 2},
    "non-forgetting": {"forgetting": False},
    "non-forgetting wordlist": {"forgetting": False, "buffer": "wordlist"},
    "cap": {"z_max": 700},
    "formats": {"formats": {"state_bits": 20, "operand_bits": 9, "lstm_view_bits": 7}},
}


@pytest.mark.parametrize("cell", ["revgru", "revlstm"])
@pytest.mark.parametrize("case", TAKEN)
def test_what_the_native_engine_takes(cell: str, case: str) -> None:
    config = Config.from_dict({"cell": cell, "input_size": 3, "hidden_size": 8} | TAKEN[case])
    with engine("native"):
        plan = engine_plan(config)
    assert plan.engine == "native"
    assert plan.product == products.PRODUCT
    assert not plan.refused


@pytest.mark.parametrize("case", REFUSALS)
def test_what_the_native_engine_refuses(case: str) -> None:
    """Chosen, it is an error that says why; not chosen, the eager engine goes on and says so."""
    changes, reason = REFUSALS[case]
    config = Config("revgru", 3, 4, **changes)
    plan = engine_plan(config)
    assert plan.engine == "eager"
    assert reason in plan.refused["native"]
    assert reason in str(plan)
    params = {n: torch.zeros(s) for n, s in config.parameter_shapes().items()}
    with engine("native"):
        with pytest.raises(RevRNNError, match=f"E_UNSUPPORTED. engine: .*{reason}"):
            engine_plan(config)
        with pytest.raises(RevRNNError, match=f"E_UNSUPPORTED. engine: .*{reason}"):
            rev_rnn(torch.zeros(2, 1, 3), params, config)


def test_what_else_was_chosen_is_kept() -> None:
    """Compiled steps and named products are the eager engine's."""
    config = Config("revgru", 3, 4)
    with compiled_steps():
        assert engine_plan(config).engine == "eager"
    with product_method("float64"):
        plan = engine_plan(config)
        assert (plan.engine, plan.product) == ("eager", "float64 (inputs), float64 (recurrent)")
        with engine("native"), pytest.raises(RevRNNError, match="product_method 'float64'"):
            engine_plan(config)


def test_engines_are_chosen_by_name() -> None:
    config = Config("revgru", 3, 4)
    assert engine_plan(config).engine == "native"
    with engine("eager"):
        assert engine_plan(config).engine == "eager"
        with engine("auto"):
            assert engine_plan(config).engine == "native"
    for wrong in ("fast", None, 1, ["native"]):
        with pytest.raises(RevRNNError, match=r"E_ARGUMENT. name: "):
            set_engine(wrong)  # type: ignore[arg-type]
    with pytest.raises(ZeroDivisionError), engine("eager"):
        raise ZeroDivisionError
    assert engine_plan(config).engine == "native"


WITHOUT_NUMBA = """
import sys
sys.modules["numba"] = None
import torch
from revrnn.torch_impl import RevGRU, engine, engine_plan
module = RevGRU(3, 4)
plan = engine_plan(module.config)
assert plan.engine == "eager" and "numba" in plan.refused["native"], plan
module(torch.randn(3, 2, 3))[0].sum().backward()
try:
    with engine("native"):
        module(torch.randn(3, 2, 3))
except Exception as error:
    assert "E_UNSUPPORTED" in str(error) and "numba" in str(error), error
else:
    raise AssertionError("no error")
"""


def test_without_numba_the_eager_engine_goes_on() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_NUMBA], check=True)


def test_numba_is_imported_only_when_it_is_needed() -> None:
    program = "import sys, revrnn.torch_impl; sys.exit('numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
