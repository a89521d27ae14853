"""How many kernels a step is, and what the model of cost counts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from gpu_bounds import DEVICES, estimate
from gpu_model import of_peer, peer_of, steps_of, tiles_of


@pytest.mark.parametrize(("cell", "counts"), [("revgru", [4, 4, 5]), ("revlstm", [2, 4, 3])])
def test_kernels_of_a_step(cell: str, counts: list[int]) -> None:
    _, ways = steps_of(cell, (20, 30))
    assert [len(launches) for launches in ways.values()] == counts


@pytest.mark.parametrize(("cell", "gates"), [("revgru", 3), ("revlstm", 5)])
def test_weights_and_operations_are_counted_once(cell: str, gates: int) -> None:
    arrays, ways = steps_of(cell, (20, 256))  # 128 units, no padding
    weights = 2 * gates * 128 * 128
    for way, size in (("forward", 2), ("back", 2), ("gradient", 4)):
        assert sum(launch.weight_bytes() for launch in ways[way]) == size * weights
    rows = arrays.padded_rows
    assert sum(launch.operations(rows) for launch in ways["forward"]) == 8 * rows * weights
    assert sum(launch.operations(rows) for launch in ways["gradient"]) == 2 * rows * weights


def test_a_larger_layer_takes_no_less_time() -> None:
    for device in DEVICES.values():
        times = []
        for size in ((20, 64), (20, 640)):
            _, ways = steps_of("revlstm", size)
            bounds = [launch.bounds(device, 32) for launch in ways["gradient"]]
            times.append(sum(max(each.values()) for each in bounds))
        assert times[0] < times[1]


def test_a_plain_lstm_is_counted_by_the_same_rules() -> None:
    ways = peer_of((20, 256))
    for launch in ways["forward"] + ways["gradient"]:
        assert launch.weight_bytes() == 4 * 4 * 256 * 256
        assert launch.operations(32) == 2 * 32 * 4 * 256 * 256
    # The larger the layer, the less a launch weighs.
    for device in DEVICES.values():
        assert of_peer("revlstm", (20, 2048), device) < of_peer("revlstm", (20, 200), device)


@pytest.mark.parametrize(
    ("cell", "size", "units", "fits"),
    [
        ("revgru", 1150, 16, ("A100", "H100")),
        ("revgru", 2048, 16, ("H100",)),
        ("revlstm", 1150, 8, ("A100", "H100")),
        ("revlstm", 2048, 8, ("H100",)),
        ("revlstm", 4096, 8, ()),
    ],
)
def test_one_launch_a_chunk_fits_or_is_none(
    cell: str, size: int, units: int, fits: tuple[str, ...]
) -> None:
    tiles = {name: tiles_of(cell, (20, size), device) for name, device in DEVICES.items()}
    assert tuple(name for name, cut in tiles.items() if cut is not None) == fits
    assert all(cut.units == units for cut in tiles.values() if cut is not None)


@pytest.mark.parametrize("cell", ["revgru", "revlstm"])
def test_barriers_stand_in_place_of_launches(cell: str) -> None:
    device = DEVICES["H100"]
    cut = tiles_of(cell, (20, 200), device)
    assert cut is not None
    ways = (steps_of(cell, (20, 200), tiles)[1]["back"] for tiles in (None, cut))
    for launches, bound in zip(ways, ("launch", "barrier"), strict=True):
        counted = sum(each.bounds(device, 32)[bound] for each in launches)
        assert counted == pytest.approx(len(launches) * getattr(device, bound))
        assert counted < estimate(launches, device, 32)[0]
