"""What a sequence costs to remember, in bits, by layer, as a table and as numbers to log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from revrnn.accounting import ideal_bits, plain_bits, stored_bits
from revrnn.config import Config
from revrnn.saturation import Saturation

from .bptt import Bptt


@dataclass(frozen=True)
class LayerReport:
    """One layer's part.

    Attributes:
        ideal_bits: bits forgotten (ACC-002).
        pushed_bits: bits of the words it pushed.
    """

    ideal_bits: float
    pushed_bits: int


@dataclass(frozen=True)
class MemoryReport:
    """The accounts of one sequence (ACC).

    Attributes:
        ideal_bits: bits forgotten (ACC-002).
        stored_bits: bits kept in order to reverse (ACC-003).
        plain_bits: bits of all states at 32 each (ACC-004).
        unit_steps: multiplications by a forget gate: units × (step, row) pairs × operations.
        bytes_kept: bytes kept after the forward pass, checkpoints included.
        layers: by layer.
        engine: what computed the sequence (see ``engine_plan``).
        product: a description of its exact product.
        saturation: what saturated in it.
    """

    ideal_bits: float
    stored_bits: int
    plain_bits: int
    unit_steps: int
    bytes_kept: int
    layers: tuple[LayerReport, ...]
    engine: str
    product: str
    saturation: Saturation

    @property
    def ideal_saving(self) -> float:
        """How many times less than all states the bits forgotten are."""
        return self.plain_bits / self.ideal_bits if self.ideal_bits else float("inf")

    @property
    def stored_saving(self) -> float:
        """How many times less than all states the bits stored are."""
        return self.plain_bits / self.stored_bits if self.stored_bits else float("inf")

    def as_dict(self) -> Mapping[str, float]:
        """Return flat numbers to log."""
        numbers: dict[str, float] = {
            "ideal_bits": self.ideal_bits,
            "stored_bits": self.stored_bits,
            "plain_bits": self.plain_bits,
            "ideal_saving": self.ideal_saving,
            "stored_saving": self.stored_saving,
            "bytes_kept": self.bytes_kept,
            "saturated_inputs": self.saturation.inputs,
            "saturated_views": self.saturation.views,
            "saturated_weights": self.saturation.weights,
            "largest_h": self.saturation.largest_h,
        }
        for k, layer in enumerate(self.layers):
            numbers[f"ideal_bits_l{k}"] = layer.ideal_bits
            numbers[f"pushed_bits_l{k}"] = layer.pushed_bits
        return numbers

    def __str__(self) -> str:
        """Return a table."""
        lines = [f"{'':10}{'ideal':>12}{'stored':>12}{'bits/unit':>12}"]
        rows = [
            (f"layer {k}", part.ideal_bits, part.pushed_bits) for k, part in enumerate(self.layers)
        ]
        rows.append(("all", self.ideal_bits, self.stored_bits))
        per_layer = self.unit_steps / max(len(self.layers), 1)
        for name, ideal, stored in rows:
            units = self.unit_steps if name == "all" else per_layer
            each = stored / units if units else 0.0
            lines.append(f"{name:10}{_size(ideal):>12}{_size(stored):>12}{each:12.2f}")
        lines.append(
            f"states {_size(self.plain_bits)}, saving {self.stored_saving:.1f}×"
            f" (ideal {self.ideal_saving:.1f}×), kept {_size(8 * self.bytes_kept)}"
        )
        lines.append(str(self.saturation))
        lines.append(f"engine {self.engine}, products: {self.product}")
        return "\n".join(lines)


def _size(bits: float) -> str:
    """Return bits as bytes with a unit."""
    size = bits / 8
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def report_of(config: Config, bptt: Bptt, mask: Tensor | None, rows: int) -> MemoryReport:
    """Return the accounts of a forward pass that counted."""
    steps = bptt.steps * rows if mask is None else int(mask.sum())
    operations = steps * config.operations_per_step
    product = bptt.engine.product(config, bptt.end.h.device)
    by = (bptt.engine.name, product, bptt.saturation.read())
    if bptt.gate_counts is None or bptt.pushed is None or not config.forgetting:
        none = tuple(LayerReport(0.0, 0) for _ in range(config.num_layers))
        return MemoryReport(0.0, 0, plain_bits(config, steps), 0, bptt.bytes_kept, none, *by)
    ideal = [ideal_bits(counts) for counts in bptt.gate_counts.cpu().numpy()]
    pushed = bptt.pushed.tolist()
    word = 16 if config.buffer == "stream" else 64 * rows * config.group_size
    flags = 0 if config.buffer == "stream" else bptt.steps * config.operations_per_step
    stored = stored_bits(config, rows, steps, sum(pushed), flags)
    layers = tuple(LayerReport(i, word * p) for i, p in zip(ideal, pushed, strict=True))
    return MemoryReport(
        sum(ideal),
        stored,
        plain_bits(config, steps),
        operations * config.group_size,
        bptt.bytes_kept,
        layers,
        *by,
    )
