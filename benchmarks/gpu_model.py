"""A model of what a step costs on a GPU, by count: no GPU is needed, and none was measured.

``python benchmarks/gpu_model.py`` lets the Triton engine launch its kernels into a list instead of
on a device, and counts launches, programs, bytes of weights and operations of a step. From these,
and from assumptions about devices (:mod:`gpu_bounds`), it estimates the time of a step and says
which bound holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch
from gpu_bounds import DEVICES, PEER, PEER_BLOCK, Device, Launch, estimate, whole

from revrnn.config import Config
from revrnn.gpu import gradient, gru, gru_back, inputs, lstm, lstm_back, tiles, words
from revrnn.gpu.constants import Mode
from revrnn.gpu.order import NONE
from revrnn.gpu.sizes import Tiles
from revrnn.torch_impl.triton import support
from revrnn.torch_impl.triton.arrays import Arrays
from revrnn.torch_impl.triton.launch import Launcher
from revrnn.torch_impl.triton.launch_persistent import programs_of, tiles_together

MODULES = (gradient, gru, gru_back, inputs, lstm, lstm_back, tiles, words)


SIZES = ((200, 200), (650, 1150), (1024, 2048))
BATCH = 20


# Outputs per unit of a tile, and summands in groups' widths, of kernels with products.
PRODUCTS = {
    "gru_gates": (1, 1),
    "gru_state": (1, 1),
    "gru_unstate": (1, 1),
    "lstm_state": (5, 1),
    "lstm_unhide": (5, 1),
    "gru_to_u": (1, 1),
    "gru_to_view": (1, 2),
    "lstm_back": (1, 5),
}


class Recorder:
    """Stands for a kernel, and notes launches."""

    def __init__(self, name: str, into: list[Launch], arrays: Arrays) -> None:
        """Note into a list."""
        self.name, self.into, self.arrays = name, into, arrays

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        """Return what a launch calls."""
        programs = int(torch.Size(grid).numel())

        def note(*_: Any, **options: Any) -> None:
            outputs, widths = PRODUCTS.get(self.name, (0, 0))
            length = widths * self.arrays.padded_units
            # All gates share a turn in RevLSTM's kernels.
            shared = 1 if self.name == "lstm_back" else widths
            turns = -(-shared * self.arrays.padded_units // options["K"].BK) if widths else 0
            unit_outputs = outputs * self.arrays.tiles.units
            self.into.append(Launch(self.name, programs, unit_outputs, length, turns))

        return note


def recorded(arrays: Arrays, run: Callable[[], object]) -> list[Launch]:
    """Return what would be launched."""
    into: list[Launch] = []
    before: list[tuple[ModuleType, str, Any]] = []
    for module in MODULES:
        for name, value in list(vars(module).items()):
            if type(value).__name__ in ("JITFunction", "InterpretedFunction"):
                before.append((module, name, value))
                setattr(module, name, Recorder(name, into, arrays))
    try:
        run()
    finally:
        for module, name, value in before:
            setattr(module, name, value)
    return into


def tiles_of(cell: str, size: tuple[int, int], device: Device) -> Tiles | None:
    """Return the tiles of one launch for many steps, if all programs run on a device at once."""
    with patch.object(support, "resident", lambda _: device.multiprocessors):
        return tiles_together(Config(cell, *size), BATCH, torch.device("cuda"))


def steps_of(
    cell: str, size: tuple[int, int], tiles: Tiles | None = None
) -> tuple[Arrays, dict[str, list[Launch]]]:
    """Return the launches of one step of one layer, by direction.

    Args:
        cell: which.
        size: of inputs and hidden states.
        tiles: of one launch for many steps; its phases are returned, each with its barrier.
    """
    config = Config(cell, *size, max_forget_bits=3)
    arrays = Arrays(config, BATCH, 2, torch.device("cpu"), tiles or Tiles.for_batch(BATCH))
    launcher = Launcher(arrays, Mode())
    ways = {
        "forward": recorded(arrays, lambda: launcher.step(1)),
        "back": recorded(arrays, lambda: launcher.step_back(1, NONE)),
        "gradient": recorded(arrays, lambda: launcher.pull_step(1, 0, True)),
    }
    joined = tiles is not None
    return arrays, {
        way: [replace(launch, joined=joined) for launch in launches]
        for way, launches in ways.items()
    }


def peer_of(size: tuple[int, int], joined: bool = False) -> dict[str, list[Launch]]:
    """Return the launches of a step of a plain LSTM at its best, by the same rules.

    Inputs' products and gradients of weights are done for all steps at once, as ours are.
    """
    hidden = size[1]
    tile = Tiles.for_batch(BATCH).units
    programs, turns = -(-hidden // tile), -(-hidden // PEER_BLOCK)
    return {
        "forward": [Launch(PEER, programs, 4 * tile, hidden, turns, joined)],
        "gradient": [Launch(PEER, programs, tile, 4 * hidden, turns, joined)],
    }


def of_peer(cell: str, size: tuple[int, int], device: Device, tiles: Tiles | None = None) -> float:
    """Return a whole training step of ours as a multiple of the plain LSTM's.

    With tiles of one launch for many steps the plain LSTM is one launch too.
    """
    arrays, ways = steps_of(cell, size, tiles)
    rows = arrays.padded_rows
    return whole(ways, device, rows) / whole(peer_of(size, tiles is not None), device, rows)


def print_joined() -> None:
    """Print the table of a whole training step, by one launch a phase and by one a chunk."""
    heads = " | ".join(f"{name}: a launch a phase, one a chunk, of the LSTM" for name in DEVICES)
    print(f"\n| cell | size | barriers | programs | {heads} |")
    print("|---|---|---:|---:|" + "---|" * len(DEVICES))
    for cell in ("revgru", "revlstm"):
        for size in SIZES:
            arrays, apart = steps_of(cell, size)
            cells: list[str] = []
            for device in DEVICES.values():
                before, tiles = (
                    whole(apart, device, arrays.padded_rows),
                    tiles_of(cell, size, device),
                )
                if tiles is None:
                    cells.append(f"{before:.0f}, does not fit")
                    continue
                after = whole(steps_of(cell, size, tiles)[1], device, arrays.padded_rows)
                ratio = of_peer(cell, size, device, tiles)
                cells.append(f"{before:.0f}, {after:.0f}, {ratio:.1f}")
            cut = tiles_of(cell, size, replace(DEVICES["H100"], multiprocessors=1000))
            assert cut is not None
            programs = programs_of(arrays.config, BATCH, cut)
            barriers = sum(len(launches) for launches in apart.values())
            name, row = f"{size[0]} → {size[1]}", " | ".join(cells)
            print(f"| {cell} | {name} | {barriers} | {programs} | {row} |")


def main() -> None:
    """Print the tables."""
    print("| cell | size | way | launches | programs | weights read, MB | operations, M |", end="")
    print(" " + " | ".join(f"{name}: µs, bound" for name in DEVICES) + " |")
    print("|---|---|---|---:|---:|---:|---:|" + "---:|" * len(DEVICES))
    for cell in ("revgru", "revlstm"):
        for size in SIZES:
            arrays, ways = steps_of(cell, size)
            for way, launches in ways.items():
                rows = arrays.padded_rows
                cells = [
                    cell,
                    f"{size[0]} → {size[1]}",
                    way,
                    str(len(launches)),
                    str(max(launch.programs for launch in launches)),
                    f"{sum(launch.weight_bytes() for launch in launches) / 1e6:.1f}",
                    f"{sum(launch.operations(rows) for launch in launches) / 1e6:.0f}",
                ]
                for device in DEVICES.values():
                    time, bound = estimate(launches, device, rows)
                    cells.append(f"{time:.0f}, {bound}")
                print("| " + " | ".join(cells) + " |")
    print_joined()
    names, cut = list(DEVICES), Tiles.for_batch(BATCH)
    print(f"\n| size | {PEER}: {', '.join(names)}, µs | RevGRU of it | RevLSTM of it |")
    print("|---|---|---|---|")
    for size in SIZES:
        rows = -(-BATCH // cut.rows) * cut.rows
        times = [whole(peer_of(size), device, rows) for device in DEVICES.values()]
        cells = [f"{size[0]} → {size[1]}", ", ".join(f"{time:.0f}" for time in times)]
        for cell in ("revgru", "revlstm"):
            cells.append(", ".join(f"{of_peer(cell, size, d):.1f}" for d in DEVICES.values()))
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
