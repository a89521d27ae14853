"""Do the vectors notice every change of the code? ``nox -s mutants``.

Every constant, operator, comparison, shift, sign, index and order in the arithmetic of a port is
changed, one at a time. A mutant that answers all vectors rightly is asked the first random requests
of each operation too. One that passes them all survives: it is listed, and must be in the table of
survivors, with the reason why it changes nothing that an operation gives.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter

from mutation.ports import Job, files, jobs, trial
from mutation.survivors import Justified, justified

PORTS = ("numpy", "torch", "jax", "native", "c")


def report(job: Job, verdict: str, reasons: Justified) -> bool:
    """Print a survivor, or what only random requests notice; say whether a reason is missing."""
    where = f"{job.port} {job.file}, line {job.mutant.line}: {job.name}"
    if verdict == "random":
        print(f"by random requests alone: {where}", flush=True)
    if verdict:
        return False
    reason = reasons.reason(job.name)
    print(f"survives: {where}: {reason or 'NO REASON KNOWN'}", flush=True)
    return reason is None


def run(port: str, chosen: list[Job], processes: int) -> int:
    """Try mutants of a port, print what there is to say, and return how many lack a reason."""
    reasons, counts, unexplained = justified(port), Counter[str](), 0
    with trial(port, processes) as tried:
        for number, (job, verdict) in enumerate(tried(chosen), 1):
            counts[verdict or "nothing"] += 1
            unexplained += report(job, verdict, reasons)
            if number % 200 == 0:
                print(f"{port}: {number} of {len(chosen)}", flush=True)
    noticed = ", ".join(f"{count} by {what}" for what, count in counts.most_common())
    print(f"{port}: {len(chosen)} mutants: {noticed}; {unexplained} without a reason", flush=True)
    return unexplained


def main() -> int:
    """Try all mutants that are asked for; return 1 if one survives without a reason."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", default=",".join(PORTS), help="some of these")
    parser.add_argument("--files", default=None, help="only these, for instance buffer,cells")
    parser.add_argument("--sample", type=int, default=None, help="so many mutants of each file")
    parser.add_argument("--processes", type=int, default=2, help="at the same time")
    parser.add_argument("--match", default="", help="only those whose names have this text")
    options = parser.parse_args()
    unexplained = 0
    for port in options.port.split(","):
        chosen = []
        for file in files(port):
            if options.files is None or file in options.files.split(","):
                all_of_it = [job for job in jobs(port, file) if options.match in job.name]
                if options.sample is not None and options.sample < len(all_of_it):
                    all_of_it = random.Random(0).sample(all_of_it, options.sample)
                chosen += all_of_it
        unexplained += run(port, chosen, options.processes)
    return 1 if unexplained else 0


if __name__ == "__main__":
    raise SystemExit(main())
