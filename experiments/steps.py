"""``python -m revrnn.experiments steps``: the memory of an update against the length of a segment.

Each figure is the peak of one update in a process of its own, above parameters and optimiser, as
the operating system counts it. The words are drawn at random: memory does not depend on them.
"""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console

from . import provenance
from .lm.memory import measure
from .lm.settings import PRESETS, LmSettings
from .outputs import check_file, write_json
from .settings import OWN, REVERSIBLE, add_options, check, chosen

CELLS: Final = (*OWN, *REVERSIBLE)
# What may be asked for: the settings on which memory depends, but for the cell and the steps.
OPTIONS: Final = (
    "framework",
    "embedding_size",
    "hidden_size",
    "num_layers",
    "max_forget_bits",
    "buffer",
    "tied",
    "batch_size",
    "optimiser",
    "weight_drop",
    "chunk_size",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    default = Path("out", "steps.json")
    parser.add_argument("--out", type=Path, default=default, help=f"the file to write ({default})")
    names = {field.name for field in fields(LmSettings)}
    add_options(parser, LmSettings, PRESETS, names - set(OPTIONS))
    lengths = [32, 64, 128, 256, 512, 1024]
    told = " ".join(map(str, lengths))
    parser.add_argument("--lengths", nargs="+", type=int, default=lengths, help=f"steps ({told})")
    parser.add_argument("--vocabulary", type=int, default=1000, help="words known (1000)")


def run(given: dict[str, Any], console: Console) -> None:
    """Measure, and write one JSON file: ``{"origin", "config", "models": {cell: {T: bytes}}}``."""
    vocabulary: int = given["vocabulary"]
    check("vocabulary", vocabulary, 2 <= vocabulary <= 2**20, "2 … 2^20")
    for steps in given["lengths"]:
        check("lengths", steps, 1 <= steps <= 2**30, "1 … 2^30")
    check_file(given["out"])
    frequencies = np.full(vocabulary, -np.log(vocabulary), np.float32)
    models: dict[str, dict[int, int]] = {}
    settings = chosen(LmSettings, PRESETS, given["preset"], given)
    for cell in CELLS:
        models[cell] = {}
        for steps in given["lengths"]:
            settings = chosen(
                LmSettings, PRESETS, given["preset"], {**given, "cell": cell, "steps": steps}
            )
            shape = (steps + 1, settings.batch_size)
            ids = np.random.default_rng(0).integers(vocabulary, size=shape, dtype=np.int32)
            peak = measure(settings, frequencies, ids)
            if peak is None:
                console.print("this system does not tell how much memory is taken")
                return
            models[cell][steps] = peak.bytes
            console.print(f"{cell}, {steps} steps: {peak.bytes / 1e6:.1f} MB ({peak.counted})")
    config = {
        name: getattr(settings, name)
        for name in ("embedding_size", "hidden_size", "num_layers", "batch_size", "chunk_size")
    }
    content = {
        "origin": provenance.of_run(settings.framework, None, {}),
        "config": {**config, "vocabulary": vocabulary, "max_forget_bits": settings.max_forget_bits},
        "models": models,
    }
    console.print(str(write_json(given["out"], content)), markup=False)
