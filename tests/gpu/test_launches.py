"""How many kernels a step is, and what the model of cost counts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from gpu_model import DEVICES, of_peer, peer_of, steps_of


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
