"""What one launch of a kernel costs on a GPU: its bounds, and assumptions about two devices.

Nothing here was measured; :mod:`gpu_model` adds up the launches of a step.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """Assumptions about a GPU, from its data sheet or, where marked so, guessed.

    Attributes:
        launch: µs from one dependent kernel of a graph to the next (guessed).
        barrier: µs of a barrier among all programs of one launch (guessed).
        trip: µs of one turn of a product's loop that waits for memory (guessed).
        multiprocessors: their number.
        l2: TB/s from the second-level cache (guessed).
        float32: TFLOP/s of float32 on all multiprocessors, without tensor cores.
        bytes_: TOP/s of signed bytes on tensor cores.
    """

    launch: float
    barrier: float
    trip: float
    multiprocessors: int
    l2: float
    float32: float
    bytes_: float


DEVICES = {
    "A100": Device(2.5, 1.4, 0.5, 108, 4.0, 19.5, 624.0),
    "H100": Device(2.0, 1.2, 0.4, 132, 5.5, 67.0, 1979.0),
}

# What is compared with: float32, not measured, each way one kernel a step as persistent ones are.
PEER = "LSTM, float32"
# Summands that one turn of the loop of its products takes, as in our own float32 kernels.
PEER_BLOCK = 32


@dataclass
class Launch:
    """One launch: its kernel, its number of programs, and the products of one program.

    Attributes:
        outputs: units that one program computes products for, over all gates.
        length: summands of each.
        turns: of the loop.
        joined: whether it is a phase of one launch, with a barrier after it.
    """

    kernel: str
    programs: int
    outputs: int = 0
    length: int = 0
    turns: int = 0
    joined: bool = False

    @property
    def floats(self) -> bool:
        """Whether its products are float32, not bytes."""
        return self.kernel in ("gru_to_u", "gru_to_view", "lstm_back", "to_layer_below", PEER)

    def weight_bytes(self) -> int:
        """Return the bytes of weights that all programs read."""
        return self.programs * self.outputs * self.length * (4 if self.floats else 2)

    def operations(self, rows: int) -> int:
        """Return additions and multiplications of the products; a byte product is four."""
        return self.programs * self.outputs * self.length * rows * (2 if self.floats else 8)

    def bounds(self, device: Device, rows: int) -> dict[str, float]:
        """Return the µs that each bound alone would take."""
        busy = min(1.0, self.programs / device.multiprocessors)
        rate = device.float32 if self.floats else device.bytes_
        return {
            "launch": 0.0 if self.joined else device.launch,
            "barrier": device.barrier if self.joined else 0.0,
            "latency": self.turns * device.trip,
            "memory": self.weight_bytes() / (device.l2 * busy) * 1e-6,
            "arithmetic": self.operations(rows) / (rate * busy) * 1e-6,
        }


def estimate(launches: list[Launch], device: Device, rows: int) -> tuple[float, str]:
    """Return the µs of launches one after the other, and the bound that most of it is."""
    bounds = [launch.bounds(device, rows) for launch in launches]
    total = {name: sum(each[name] for each in bounds) for name in bounds[0]}
    between = total["launch"] + total["barrier"]
    others = [
        max(µs for name, µs in each.items() if name not in ("launch", "barrier")) for each in bounds
    ]
    return between + sum(others), max(total, key=lambda name: total[name])


def whole(ways: dict[str, list[Launch]], device: Device, rows: int) -> float:
    """Return the µs of a whole training step."""
    return sum(estimate(launches, device, rows)[0] for launches in ways.values())
