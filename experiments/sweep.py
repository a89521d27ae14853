"""All runs of a comparison, one after the other, and what they show together.

Runs that have ended are left alone and a run that was cut goes on, so the command can be given
again; with more ``--epochs`` all go on. Table and plots are written anew after every run.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from revrnn.errors import RevRNNError

from .lock import locked
from .plots import plot_losses
from .runs import RunFolder, write_file, written
from .settings import add_options, chosen

# How a run can fail that was begun rightly.
DIVERGED: Final = ("E_NONFINITE", "E_OVERFLOW")


@dataclass(frozen=True)
class Comparison:
    """An experiment whose runs are to be compared.

    Attributes:
        settings: the dataclass of the settings.
        presets: presets by name.
        variants: what each run sets itself, by the name of its folder.
        run: the command of one run.
        table: returns a Markdown table of runs that have ended.
        plot_trade: draws what runs that have ended give for the memory that they save.
        describe: returns a run's model in a few words, from its settings.
        folder: where the runs go, if nothing else is said.
    """

    settings: type[Any]
    presets: Mapping[str, Mapping[str, Any]]
    variants: Mapping[str, Mapping[str, Any]]
    run: Callable[[dict[str, Any], Console], None]
    table: Callable[[Sequence[RunFolder]], str]
    plot_trade: Callable[[Path, Sequence[RunFolder]], None]
    describe: Callable[[dict[str, Any]], str]
    folder: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the options of a sweep: those of a run, for all runs."""
        parser.add_argument(
            "--out", type=Path, default=Path(self.folder), help=f"folder of runs ({self.folder})"
        )
        parser.add_argument("--preset", choices=tuple(self.presets), default="small")
        parser.add_argument(
            "--only", nargs="+", choices=tuple(self.variants), help="only these runs"
        )
        add_options(parser, self.settings)

    def sweep(self, given: dict[str, Any], console: Console) -> None:
        """Run what is missing, and write what there is after every run.

        A run whose loss or state leaves all bounds does not keep the others from running.

        Raises:
            RevRNNError: as a run does, after the others where it is one of :data:`DIVERGED`;
                ``E_ARGUMENT`` before the first run, if one that is asked for by its name cannot be,
                or none can.
        """
        out, possible = given["out"], self._possible(given, console)
        with written(out):
            out.mkdir(parents=True, exist_ok=True)
        with locked(out):
            self._run_all(out, given, possible, console)

    def _run_all(
        self, out: Path, given: dict[str, Any], runs: dict[str, dict[str, Any]], console: Console
    ) -> None:
        failed = []
        for name, own in runs.items():
            if _is_done(own["out"], given):
                console.print(f"{name}: done before")
            else:
                resume = (own["out"] / "config.json").exists()
                try:
                    self.run({**own, "resume": resume}, console)
                except RevRNNError as error:
                    if error.code not in DIVERGED:
                        raise
                    console.print(f"{name} ends here: {error}", markup=False, style="red")
                    failed.append(error)
                    continue
            self.write(out)
        if failed:
            raise failed[0]

    def write(self, out: Path) -> None:
        """Write ``table.md`` and the plots of the runs that have ended."""
        runs = [RunFolder(out / name) for name in self.variants]
        ended = [run for run in runs if run.has_ended]
        write_file(out / "table.md", self.table(ended).encode())
        plot_losses(out / "losses", {self.describe(run.config): run for run in ended})
        self.plot_trade(out / "savings", ended)

    def _possible(self, given: dict[str, Any], console: Console) -> dict[str, dict[str, Any]]:
        """Return what each run is given; say which of the comparison cannot be, and why."""
        options = {k: v for k, v in given.items() if k != "only"}
        possible, refused = {}, []
        for name in given["only"] or self.variants:
            own = {**options, **self.variants[name], "out": given["out"] / name}
            try:
                chosen(self.settings, self.presets, given["preset"], own)
            except RevRNNError as error:
                if given["only"]:
                    raise
                refused.append((name, error))
                continue
            possible[name] = own
        if not possible:
            raise refused[0][1]
        for name, why in refused:
            console.print(f"{name} is left out: {why}", markup=False)
        return possible


def _is_done(path: Path, given: dict[str, Any]) -> bool:
    """Say whether a run has ended, and with as many epochs as are asked for."""
    run = RunFolder(path)
    if not run.has_ended:
        return False
    config = run.config
    return bool(given.get("epochs", config["epochs"]) <= config["epochs"])
