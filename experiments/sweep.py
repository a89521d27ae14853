"""All runs of a comparison, and what they show together.

Runs that have ended are left alone and a run that was cut goes on, so the command can be given
again; with more ``--epochs`` all go on. Table, plots and ``results.json`` are written anew after
every run.

With ``--rates`` each cell is first trained with each of these learning rates, all with the same
budget, and then all its runs have the one that was best on validation text. With ``--seeds`` every
run is repeated, from other first weights and with other dropouts.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from revrnn.errors import RevRNNError
from revrnn.whole_files import encoded

from .gathered import gather, rates_tried, table_of_means
from .lock import locked
from .outputs import check_file, plot_files, write_file, write_json, written
from .plots import plot_losses
from .processes import Processes, use_part_of_cores
from .runs import RunFolder
from .settings import add_options, check_rates, chosen, restored

# How a run can fail that was begun rightly.
DIVERGED: Final = ("E_NONFINITE", "E_OVERFLOW")
# The folder of the runs that choose learning rates.
RATES: Final = "rates"
_OWN: Final = ("only", "seeds", "rates", "rate_epochs", "processes")
Given = dict[str, Any]


@dataclass(frozen=True)
class Comparison:
    """An experiment whose runs are to be compared.

    Attributes:
        settings: the dataclass of the settings.
        presets: presets by name.
        variants: what each run sets itself, by the name of its folder.
        decided: settings of which the comparison decides, not who asks for it.
        run: the command of one run.
        table: returns a Markdown table of runs that have ended.
        plot_trade: draws what runs that have ended give for the memory that they save.
        describe: returns a run's model in a few words, from its settings.
        folder: where the runs go, if nothing else is said.
        quality: the entry of a summary by which a learning rate is chosen, the least the best.
        metrics: the entries of a summary that are gathered over seeds.
        for_rates: by cell, the run that chooses its learning rate.
    """

    settings: type[Any]
    presets: Mapping[str, Mapping[str, Any]]
    variants: Mapping[str, Mapping[str, Any]]
    decided: Sequence[str]
    run: Callable[[Given, Console], None]
    table: Callable[[Sequence[RunFolder]], str]
    plot_trade: Callable[[Path, Sequence[RunFolder]], None]
    describe: Callable[[dict[str, Any]], str]
    folder: str
    quality: str
    metrics: Sequence[str]
    for_rates: Mapping[str, str]

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the options of a sweep: those of a run, for all runs."""
        parser.add_argument(
            "--out", type=Path, default=Path(self.folder), help=f"folder of runs ({self.folder})"
        )
        parser.add_argument(
            "--only",
            nargs="+",
            choices=tuple(self.variants),
            metavar="RUN",
            help=f"only these runs (all: {', '.join(self.variants)})",
        )
        parser.add_argument("--seeds", type=_count, default=1, help="how often each is run (1)")
        parser.add_argument(
            "--rates",
            nargs="+",
            type=float,
            default=[],
            help="learning rates to choose from, for each cell (none)",
        )
        by = "passes to choose a rate by (1)"
        parser.add_argument("--rate-epochs", type=_count, default=argparse.SUPPRESS, help=by)
        parser.add_argument(
            "--processes", type=_count, default=1, help="runs at a time, each of few threads (1)"
        )
        add_options(parser, self.settings, self.presets, self.decided)

    def sweep(self, given: Given, console: Console) -> None:
        """Run what is missing, and write what there is after every run.

        A run whose loss or state leaves all bounds does not keep the others from running.

        Raises:
            RevRNNError: as a run does, after the others where it is one of :data:`DIVERGED`;
                ``E_ARGUMENT`` before the first run, if one that is asked for by its name cannot be,
                or none can.
        """
        check_rates(given)
        given = {"seeds": 1, "rates": [], "rate_epochs": 1, "processes": 1, **given}
        out, possible = given["out"], self._possible(given, console)
        with written(out):
            out.mkdir(parents=True, exist_ok=True)
        plotted = [*plot_files(out / "losses"), *plot_files(out / "savings")]
        for file in (out / "results.json", out / "table.md", *plotted):
            check_file(file)
        with locked(out):
            runs = {}
            first = given.get("seed", 0)
            for number in range(given["seeds"]):
                for name, own in possible.items():
                    folder = name if number == 0 else f"{name}-seed-{first + number}"
                    more = {"out": out / folder} | ({"seed": first + number} if number else {})
                    runs[folder] = {**own, **more}
                    RunFolder.has_begun(out / folder)  # raises where there can be no run
            rates = self._choose_rates(given, possible, console)
            runs = {name: {**own, **rates.get(own["cell"], {})} for name, own in runs.items()}
            self._take_over(out, runs.values())
            self._run_all(runs, given["processes"], console, lambda: self.write(out))

    def _choose_rates(
        self, given: Given, possible: dict[str, Given], console: Console
    ) -> dict[str, Given]:
        """Return the best learning rate of each cell, from runs of the same budget."""
        runs: dict[str, Given] = {}
        cells = dict.fromkeys(own["cell"] for own in possible.values())
        for cell in cells if given["rates"] else ():
            options = {k: v for k, v in given.items() if k not in _OWN}
            own = {**options, **self.variants[self.for_rates[cell]], "epochs": given["rate_epochs"]}
            for rate in given["rates"]:
                name = f"{cell}-{rate:g}"
                more = {"learning_rate": rate, "out": given["out"] / RATES / name}
                runs[name] = {**own, **more, "measure_memory": False}
        self._run_all(runs, given["processes"], console, lambda: None, may_fail=True)
        best = {}
        for cell in cells if runs else ():
            ended = [
                (run.summary[self.quality], own["learning_rate"])
                for name, own in runs.items()
                if own["cell"] == cell and (run := RunFolder(own["out"])).has_ended
            ]
            if not ended:
                allowed = f"rates among which there is one for {cell}: all of its runs diverged"
                raise RevRNNError("E_ARGUMENT", "rates", given["rates"], allowed)
            best[cell] = {"learning_rate": min(ended)[1]}
            console.print(f"{cell}: learning rate {min(ended)[1]:g}")
        return best

    def _take_over(self, out: Path, runs: Iterable[Given]) -> None:
        """Copy runs that chose a rate to where runs with the same settings are asked for."""
        tried = {path: RunFolder(path) for path in sorted((out / RATES).glob("*"))}
        for own in runs:
            config = asdict(chosen(self.settings, self.presets, own["preset"], own))
            same = [p for p, run in tried.items() if run.has_ended and run.config == config]
            if same and not own["out"].exists():
                with written(own["out"]):
                    copied = shutil.copytree(same[0], out / "copied", dirs_exist_ok=True)
                    copied.rename(own["out"])

    def _run_all(
        self,
        runs: Mapping[str, Given],
        processes: int,
        console: Console,
        after: Callable[[], None],
        may_fail: bool = False,
    ) -> None:
        """Run what has not ended, in turn or some at a time."""
        waiting = {}
        for name, own in runs.items():
            if self._is_done(own["out"], own):
                console.print(f"{name}: done before")
            else:
                waiting[name] = {**own, "resume": RunFolder.has_begun(own["out"])}
        if len(waiting) < len(runs):
            after()
        failed = []
        for name, error in self._results(waiting, processes, console):
            if error is None:
                after()
                continue
            if error.code not in DIVERGED:
                raise error
            console.print(f"{name} ends here: {error}", markup=False, style="red")
            failed.append(error)
        if failed and not may_fail:
            raise failed[0]

    def _results(
        self, waiting: dict[str, Given], processes: int, console: Console
    ) -> Iterator[tuple[str, RevRNNError | None]]:
        """Run everything, and give each run's name, and its error if there was one."""
        if processes == 1:
            for name, own in waiting.items():
                yield name, _run(self.run, own, console)
            return
        with Processes(processes, use_part_of_cores, processes) as pool:
            names = {pool.submit(_run, self.run, own): name for name, own in waiting.items()}
            left: set[Future[RevRNNError | None]] = set(names)
            try:
                while left:
                    done, left = wait(left, return_when=FIRST_COMPLETED)
                    for future in done:
                        console.print(f"{names[future]}: done")
                        yield names[future], future.result()
            finally:
                for future in left:
                    future.cancel()

    def write(self, out: Path) -> None:
        """Write tables, plots and ``results.json`` of the runs that have ended."""
        runs = [RunFolder(out / name) for name in self.variants]
        ended = [run for run in runs if run.has_ended]
        seeds = {
            run.path.name: [run, *map(RunFolder, sorted(out.glob(f"{run.path.name}-seed-*")))]
            for run in ended
        }
        results = gather(seeds, self.metrics, self.describe)
        results["rates"] = rates_tried(out / RATES, self.quality)
        write_json(out / "results.json", results)
        text = self.table(ended)
        if any(len(row["seeds"]) > 1 for row in results["models"]):
            text += "\n" + table_of_means(results, self.metrics)
        write_file(out / "table.md", encoded(text))
        plot_losses(out / "losses", {self.describe(run.config): run for run in ended})
        self.plot_trade(out / "savings", ended)

    def _possible(self, given: Given, console: Console) -> dict[str, Given]:
        """Return what each run is given; say which of the comparison cannot be, and why."""
        options = {k: v for k, v in given.items() if k not in _OWN}
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

    def _is_done(self, path: Path, given: Given) -> bool:
        """Say whether a run has ended, and with as many epochs as are asked for.

        Raises:
            RevRNNError: ``E_ARGUMENT`` if it has ended, with another setting than is asked for.
        """
        run = RunFolder(path)
        if not run.has_ended:
            return False
        config = run.config
        if given.get("epochs", config["epochs"]) > config["epochs"]:
            return False
        restored(self.settings, config, {k: v for k, v in given.items() if k != "epochs"})
        return True


def _run(
    run: Callable[[Given, Console], None], own: Given, console: Console | None = None
) -> RevRNNError | None:
    """Return how a run fails, if it does; without a console its log has what it has to say."""
    try:
        run(own, console or Console(quiet=True))
    except RevRNNError as error:
        return error
    return None


def _count(word: str) -> int:
    """Read a number that is at least 1."""
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"got {word!r}; allowed: a whole number, at least 1")
    return int(word)
