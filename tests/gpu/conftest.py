"""Two runs see all of what is here, with ``TRITON_INTERPRET=1`` and without.

``nox -s gpu`` runs everything. Of it ``nox -s tests`` runs on every machine what is named here as
quick, and ``nox -s slow`` the rest.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest

# One process either interprets or compiles kernels.
NAMES = ("faults", "guards", "interpreter", "jax_interpreter", "persistent", "waits")
INTERPRETED = [f"test_{name}.py" for name in NAMES]
COMPILED = ["test_compiled.py", "test_jax_compiled.py", "test_launches.py"]
QUICK = (
    "test_random_sequences_agree_with_the_oracle",
    "test_every_step_is_the_oracles",
    "test_forward_back_and_gradients[revgru-stream-L1-n3-D0-T6-R23]",
    "test_forward_back_and_gradients[revlstm-stream-L1-n3-D0-T6-R23]",
    "test_random_sequences_in_one_launch_a_chunk",
    "test_a_step_is_so_many_barriers",
    "test_programs_that_do_not_run_at_once_would_hang",
    "test_the_plan_says_which_batches_fit",
    "test_waits.py",
    "test_a_sequence_and_its_gradients_are_the_oracles",
    "test_jax_agrees_with_the_oracle",
    "test_what_it_does_not_take_it_names",
    "test_jax_compiled.py",
    "test_registers_spills_and_tensor_cores",
    "test_the_three_architectures_are_named",
    "test_launches.py",
)

collect_ignore = COMPILED if os.environ.get("TRITON_INTERPRET") == "1" else INTERPRETED
if find_spec("triton") is None:
    collect_ignore = [*COMPILED, *INTERPRETED]


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark as slow what is not named as quick."""
    if not any(name in item.nodeid for name in QUICK):
        item.add_marker(pytest.mark.slow)
