"""Is a port of the specification right, and if not, where is it wrong first?

Exit status 0: every profile that was judged passes; 1: something does not; 2: the port cannot be
asked at all.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from pathlib import Path
from typing import Final

from revrnn import SPEC_VERSION
from revrnn.command_line import run_program, say
from revrnn.errors import RevRNNError
from revrnn.whole_files import check_place, encoded, write_whole

from .adapters import InProcess, Port, find
from .guard import leave_when_told
from .judge import ABSENT, judge_of
from .life import PortError
from .limits import RANGES, Means, check_numbers, printable
from .process import ProcessPort
from .profiles import PROFILES, check_profiles
from .progress import progress
from .report import as_html, as_json, as_text
from .runner import Runner
from .verdict import kept

# Random requests of each operation, if nothing else is said and there is a judge.
_USUAL: Final = 20


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    line = argparse.ArgumentParser(prog="python -m revrnn.conformance", description=__doc__)
    port = line.add_mutually_exclusive_group(required=True)
    port.add_argument("--adapter", help="package:factory, an entry point, numpy, torch or jax")
    port.add_argument("--command", help="a program that speaks CONF-003")
    line.add_argument(
        "--profile", action="append", metavar="|".join(PROFILES), help="judge this one (repeatable)"
    )
    line.add_argument("--judge", help="who is right about random requests; as --adapter")
    line.add_argument(
        "--examples",
        type=int,
        default=None,
        help=f"random requests an operation, and as many with faults; {_USUAL} with a judge",
    )
    line.add_argument(
        "--seed", type=int, default=None, help="of random requests and of the order of all"
    )
    line.add_argument("--timeout", type=float, default=30.0, help="seconds for one answer")
    line.add_argument("--time", type=float, default=3600.0, help="seconds for the whole run")
    line.add_argument("--memory", type=int, default=2048, help="MiB for a program's processes")
    line.add_argument("--processes", type=int, default=64, help="of a program, at most")
    line.add_argument("--report", type=Path, help="where to write JSON")
    line.add_argument("--html", type=Path, help="where to write a page")
    line.add_argument("--quiet", action="store_true", help="no progress")
    line.add_argument("--version", action="version", version=f"specification {SPEC_VERSION}")
    return line


_NO_JUDGE: Final = f"0 without a judge (--judge); {ABSENT}"


def _check_place(name: str, path: Path | None) -> None:
    """Raise ``E_ARGUMENT`` for a file that cannot be written, before all is asked."""
    if path is None:
        return
    reason = "its folder cannot be written to"
    try:
        folder = next((one for one in path.absolute().parents if one.exists()), None)
        fits = folder is not None and folder.is_dir() and os.access(folder, os.W_OK)
        check_place(path)
    except OSError as error:  # also a name that is too long
        fits, reason = False, error.strerror or str(error)
    if not fits:
        raise RevRNNError("E_ARGUMENT", name, f"{path}: {reason}", "a file that can be written")


def port_of(options: argparse.Namespace) -> Port:
    """Return the port that the command line names."""
    if options.adapter is not None:
        return InProcess(find(options.adapter))
    means = Means(options.memory * 2**20, options.processes)
    return ProcessPort(options.command, options.timeout, means, seed=options.seed)


def main(arguments: list[str] | None = None) -> int:
    """Run the suite and return the exit status."""
    options = parser().parse_args(arguments)
    if options.seed is None:
        options.seed = secrets.randbits(32)
    try:
        check_numbers({name: getattr(options, name) for name in RANGES})
        for name in ("report", "html"):
            path = getattr(options, name)
            _check_place(name, path)
            # An adapter may go to another folder.
            setattr(options, name, path and path.absolute())
        if options.report is not None and options.report == options.html:
            raise RevRNNError("E_ARGUMENT", "html", options.html, "another file than the report's")
        profiles = None if options.profile is None else tuple(dict.fromkeys(options.profile))
        check_profiles(profiles or ())
        judge = judge_of(options.judge)
        if judge is None and options.examples:
            raise RevRNNError("E_ARGUMENT", "examples", options.examples, _NO_JUDGE)
        port = port_of(options)
    except (RevRNNError, PortError) as error:
        print(printable(str(error)), file=sys.stderr)
        return 2
    if judge is None:
        print(ABSENT, file=sys.stderr)
    names = {name: getattr(options, name) for name in ("adapter", "command", "judge")}
    try:
        with progress(not options.quiet) as tell:
            runner = Runner(
                port,
                judge,
                profiles=profiles,
                examples=_USUAL if options.examples is None else options.examples,
                seed=options.seed,
                names={name: value for name, value in names.items() if value is not None},
                progress=tell,
                seconds=options.time,
            )
            report = runner.run()
    except (RevRNNError, PortError) as error:
        print(printable(str(error)), file=sys.stderr)
        return 2
    finally:
        port.close()
    say(as_text(report))
    for path, text in ((options.report, as_json), (options.html, as_html)):
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, encoded(text(report)))
            except OSError as error:
                print(f"{path} cannot be written: {error.strerror or error}", file=sys.stderr)
                return 2
    return 0 if report.passed() else 1


if __name__ == "__main__":
    leave_when_told()
    run_program(lambda: kept(main))
