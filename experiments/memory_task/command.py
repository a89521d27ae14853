"""``python -m revrnn.experiments memory``: what a network that cannot forget cannot do.

A network that discards nothing must find room for all it has ever seen. The paper's example
(section 4) is the simplest of tasks, to repeat each token: whoever can undo a step, given the
step's token, reads that token from the output first, so the last state has to contain the whole
sequence, and a finite state is full at some length. Here RevGRU and RevLSTM without forgetting are
trained on it beside the same cells with forgetting and PyTorch's own GRU and LSTM: the same data,
updates and learning rates. In PyTorch alone; the other implementations compute the same bits.
"""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console

from ..command import account, add_run_options, begin, introduce
from ..run_log import say
from .report import outcomes, write_report
from .settings import PRESETS, MemorySettings
from .train import train


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_run_options(parser, MemorySettings, PRESETS, "out/memory")


def run(given: dict[str, Any], console: Console) -> None:
    """Train and test all networks, and write the report."""
    with begin(MemorySettings, PRESETS, given, lambda settings: None) as (settings, _, folder):
        jobs = len(settings.jobs)
        text = f"{jobs} networks, {settings.updates} updates each; {folder.path}"
        introduce(folder, console, settings, text)
        train(settings, folder, console)
        results = {"networks": outcomes(settings, folder.records("result"))}
        write_report(settings, folder, account(folder, settings, results, {}))
        say(folder, console, f"end: {folder.path / 'report.md'}")
