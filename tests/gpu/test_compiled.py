"""All kernels compiled ahead of time: registers, spills, and products on tensor cores."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from compile import (
    ARCHITECTURES,
    CONSTANTS,
    GRU_ONLY,
    all_kernels,
    compiled,
    made_of,
    persistent_kernels,
)

from revrnn.gpu import gradient, gru, gru_back, lstm, lstm_back, persistent, tiles

# Kernels with an exact product.
WITH_DOTS = ("gru_gates", "gru_state", "gru_unstate", "lstm_state", "lstm_unhide", "input_part")
# The least shared memory that a program may have on these GPUs.
SHARED = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}


@pytest.mark.parametrize(("architecture", "units"), [(80, 100), (90, 1024), (100, 575)])
def test_registers_spills_and_tensor_cores(architecture: int, units: int) -> None:
    seen = set()
    for made in all_kernels(architecture, units):
        plain = made.name.rstrip("+")
        seen.add(plain)
        assert made.registers <= 255, made
        assert made.spills <= 16, made
        assert made.shared <= SHARED[architecture], made
        assert made.float_dots == 0, made  # float32 is float32, not TF32
        assert (made.bytes_dots > 0) == (plain in WITH_DOTS), made
    assert len(seen) == 15


@pytest.mark.parametrize(("architecture", "units"), [(80, 575), (90, 100), (100, 1024)])
def test_many_steps_in_one_launch_hardly_spill(architecture: int, units: int) -> None:
    all_made = list(persistent_kernels(architecture, units))
    for made in all_made:
        assert made.registers <= 255, made
        assert made.spills <= 64, made
        assert made.shared <= SHARED[architecture], made
        assert made.float_dots == 0, made
        assert (made.bytes_dots > 0) == (not made.name.startswith("pull")), made
    assert len(all_made) == 6


def test_the_three_architectures_are_named() -> None:
    assert set(ARCHITECTURES) == set(SHARED)


def test_spills_would_be_seen() -> None:
    base = replace(CONSTANTS, G=100, Gp=128, BM=32, BN=32, BK=128, GAINS=False, MASK=False)
    made = compiled(lstm.lstm_state, 90, replace(base, WRAPS=False), warps=1, stages=2, mark="")
    assert made.spills > 16


# A small stack of one layer.
SMALL = {"G": 20, "Gp": 64, "BM": 16, "BN": 16, "BK": 64, "CP": 64, "NP": 4}


@pytest.mark.parametrize("forget", [True, False])
@pytest.mark.parametrize("cell", ["revgru", "revlstm"])
def test_every_mode_compiles(cell: str, forget: bool) -> None:
    """What other configurations and ways of going back choose differently."""
    base = replace(
        CONSTANTS,
        **SMALL,
        GRU=cell == "revgru",
        R_S=20,
        R_H=16,
        SHIFT=4,
        VIEW=8,
        XS=0,
        LIMIT=0,
        Z_MAX=1024,
        P_MAX=1024,
        FORGET=forget,
        N=5 if cell == "revlstm" and forget else 3,
        PLANES=8 if cell == "revgru" else 10,
    )
    kernels = {
        "revgru": (gru.gru_gates, gru.gru_state, gru_back.gru_unstate, gradient.gru_to_view),
        "revlstm": (
            lstm.lstm_state,
            lstm_back.lstm_unhide,
            lstm_back.lstm_uncell,
            gradient.lstm_back,
        ),
    }[cell]
    for kernel in (*kernels, tiles.prepare, persistent.forward, persistent.back):
        for plain, way in ((True, False), (False, True)):
            modes = {"FIRST": plain, "GAINS": not plain, "MASK": way, "KEEP": way, "WRAPS": way}
            constants = replace(base, **modes, STORED=not way, REFILL=way)
            assert made_of(kernel, 90, constants, 4, 2).asm["cubin"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_barrier_orders_what_was_written_before_it(architecture: int) -> None:
    """Arrivals release and waiting acquires, for the whole device; all threads join both."""
    constants = replace(CONSTANTS, **SMALL, **GRU_ONLY, SLOTS=2, FORGET=False)
    made = made_of(persistent.pull, architecture, constants, 4, 2)
    arrive = r"bar\.sync\s+0;(?:(?!bar\.sync)[\s\S])*?atom\.global\.gpu\.acq_rel\.add"
    ptx = made.asm["ptx"]
    barriers = len(re.findall(r"atom\.global\.gpu\.acq_rel\.add", ptx))
    assert barriers == 3  # outputs; gradients of u and of views
    assert len(re.findall(arrive, ptx)) == barriers
    assert len(re.findall(r"ld\.global\.gpu\.acquire\.b32", ptx)) == barriers
    assert made.metadata.launch_cooperative_grid
