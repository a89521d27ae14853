"""``python -m revrnn.experiments forgetting``: what each unit of a RevGRU forgets, and where.

A unit that keeps ``z`` of its value forgets ``−log2 z`` bits of it in a step. The gates are worked
out in float arithmetic at the exact states that the oracle gives.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from revrnn import Config
from revrnn.errors import RevRNNError
from revrnn.evaluation import fresh_heads
from revrnn.evaluation import load as load_implementation

from . import provenance
from .agreement import exact_arguments
from .lm.corpus import load
from .lm.settings import LmSettings
from .outputs import check_file, write_file
from .runs import Arrays, RunFolder
from .settings import check, restored
from .text import Batch

Floats = npt.NDArray[np.float64]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--run", type=Path, required=True, help="the folder of an lm run that ended"
    )
    default = Path("out", "forgetting.json")
    parser.add_argument("--out", type=Path, default=default, help=f"the file to write ({default})")
    parser.add_argument("--first", type=int, default=0, help="first word, in the test text (0)")
    parser.add_argument("--words", type=int, default=40, help="how many words (40)")


def run(given: dict[str, Any], console: Console) -> None:
    """Measure, and write words ``[T]``, bits ``[T, H]`` and the mean over units ``[T]``."""
    path: Path = given["out"]
    check_file(path)
    folder, settings = _ended(given["run"])
    corpus = load(settings.data)
    first, words, there = given["first"], given["words"], len(corpus.test)
    check("first", first, 0 <= first < there, f"0 … {there - 1}, a word of the test text")
    allowed = f"1 … {there - first}, as the test text has {there}"
    check("words", words, 1 <= words <= there - first, allowed)
    ids = corpus.test[first : first + words]
    bits = forgotten(settings.config(), folder.best(), ids)
    content = {
        "origin": provenance.of_run("torch", settings.config(), corpus.hashes),
        "config": folder.summary["config"],
        "words": [corpus.vocabulary.words[i] for i in ids],
        "bits": [[round(float(value), 3) for value in row] for row in bits],
        "mean_by_word": [round(float(value), 4) for value in bits.mean(1)],
    }
    console.print(str(write_file(path, (json.dumps(content) + "\n").encode())), markup=False)


def _ended(path: Path) -> tuple[RunFolder, LmSettings]:
    """Return the folder and the settings of a run that this can be asked of."""
    folder = RunFolder.existing(path, "run")
    if not folder.has_ended:
        given = f"{path}, a run that has not ended"
        raise RevRNNError("E_ARGUMENT", "run", given, "a run that has; go on with it by --resume")
    settings = restored(LmSettings, folder.config, {})
    if settings.cell != "revgru" or settings.num_layers != 1 or not settings.forgetting:
        given = f"{path}: {settings.cell} × {settings.num_layers}, forgetting={settings.forgetting}"
        raise RevRNNError("E_ARGUMENT", "run", given, "a run of revgru × 1 that forgets")
    return folder, settings


def forgotten(config: Config, parameters: Arrays, ids: npt.NDArray[np.int32]) -> Floats:
    """Return the bits that each unit forgets at each word, float64 ``[T, H]``."""
    oracle = load_implementation("numpy")
    batch = Batch(ids[:, None], ids[:, None])
    state: Arrays = {"h": np.zeros((1, 1, config.hidden_size), np.int32)}
    state["heads"] = fresh_heads(config.buffer, 1, config.group_size)
    arguments = exact_arguments(oracle, config, parameters, batch, state)
    traced = oracle.evaluate("sequence_forward", arguments | {"trace": True})
    after = traced["h_steps"][:, 0, 0] / 2.0**config.formats.state_bits
    before = np.concatenate([np.zeros((1, config.hidden_size)), after[:-1]])
    units, gates = config.group_size, config.num_gates
    x = parameters["embedding"][ids].astype(np.float64)
    bits = np.empty((len(ids), config.hidden_size))
    for own, other in ((0, before[:, units:]), (1, after[:, :units])):  # CELL-004
        rows = slice(own * gates * units, own * gates * units + units)  # CELL-003: z comes first
        s = x @ parameters["rnn.weight_ih_l0"][rows].T + parameters["rnn.bias_l0"][rows]
        s += other @ parameters["rnn.weight_hh_l0"][rows].T
        z = 1 / (1 + np.exp(-s))
        if config.max_forget_bits is not None:  # ACT-004
            z = (1 + (2.0**config.max_forget_bits - 1) * z) / 2.0**config.max_forget_bits
        z = np.clip(z, 2.0**-10, config.resolved_z_max / 1024)
        bits[:, own * units : (own + 1) * units] = -np.log2(z)
    return bits
