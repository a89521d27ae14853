"""Do the vectors notice every change of the code? ``nox -s mutants``.

Every constant, operator, comparison, shift, sign, index and order in the arithmetic of a port is
changed, one at a time. A mutant that answers all vectors rightly is asked the first random requests
of each operation too. One that passes them all survives: it is listed, and must be in the table of
survivors, with the reason why it changes nothing that an operation gives.

What was tried is kept in ``out/mutants``, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from pathlib import Path
from typing import Final

from mutation.ports import Job, files, jobs, trial
from mutation.record import Record
from mutation.survivors import Justified, justified

PORTS = ("law", "numpy", "naive", "torch", "jax", "native", "c")
# How many mutants of each file are tried where all take too long.
SAMPLES: Final = {"jax": 4, "native": 8}


def report(job: Job, verdict: str, reasons: Justified) -> bool:
    """Print a survivor, or what no vector notices; say whether a reason is missing."""
    where = f"{job.port} {job.file}, line {job.mutant.line}: {job.name}"
    if verdict in ("random", "tests", "time"):
        print(f"by {verdict} alone: {where}", flush=True)
    if verdict:
        return False
    reason = reasons.reason(job.name)
    print(f"survives: {where}: {reason or 'NO REASON KNOWN'}", flush=True)
    return reason is None


def run(port: str, chosen: list[Job], record: Record, processes: int) -> int:
    """Try mutants of a port, print what there is to say, and return how many lack a reason."""
    left = [job for job in chosen if job not in record]
    if left:
        with trial(port, processes) as tried:
            for number, (job, verdict) in enumerate(tried(left), 1):
                record.add(job, verdict)
                print(f"{port}: {number} of {len(left)}: {job.name}: {verdict}", flush=True)
    reasons, unexplained = justified(port), 0
    by_file: dict[str, Counter[str]] = {file: Counter() for file in files(port)}
    for job in chosen:
        by_file[job.file][record[job] or "nothing"] += 1
        unexplained += report(job, record[job], reasons)
    for file, counts in by_file.items():
        if counts:
            noticed = ", ".join(f"{count} by {what}" for what, count in counts.most_common())
            print(f"{port} {file}: {counts.total()} of {len(jobs(port, file))} mutants: {noticed}")
    print(f"{port}: {len(chosen)} mutants, {unexplained} without a reason", flush=True)
    return unexplained


def main() -> int:
    """Try all mutants that are asked for; return 1 if one survives without a reason."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", default=",".join(PORTS), help="some of these")
    parser.add_argument("--files", default=None, help="only these, for instance buffer,cells")
    parser.add_argument("--sample", type=int, help=f"so many of each file, 0: all; now {SAMPLES}")
    parser.add_argument("--processes", type=int, default=2, help="at the same time")
    parser.add_argument("--match", default="", help="only those whose names have this text")
    parser.add_argument("--record", type=Path, default=Path("out", "mutants"), help="a folder")
    options = parser.parse_args()
    unexplained = 0
    for port in options.port.split(","):
        chosen = []
        sample = SAMPLES.get(port, 0) if options.sample is None else options.sample
        for file in files(port):
            if options.files is None or file in options.files.split(","):
                all_of_it = [job for job in jobs(port, file) if options.match in job.name]
                if 0 < sample < len(all_of_it):
                    all_of_it = random.Random(0).sample(all_of_it, sample)
                chosen += all_of_it
        unexplained += run(port, chosen, Record(options.record, port), options.processes)
    return 1 if unexplained else 0


if __name__ == "__main__":
    raise SystemExit(main())
