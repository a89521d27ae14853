"""One variant of a training step, in a process of its own that does a step when asked.

``python benchmarks/worker.py '{"framework": "torch", "variant": "plain", …}'`` prints a line of
JSON when it is ready, and one for every line that it reads: for ``time`` how long a step takes, for
``memory`` the peak of one, above what parameters, gradients and libraries take. So variants can
take turns, and the peak is the variant's own.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from typing import Any

from processors import keep_to

# Words in the messages of PyTorch, XLA and the C++ library when memory runs out.
OUT_OF_MEMORY = ("memory", "RESOURCE_EXHAUSTED", "bad_alloc")


def serve(options: dict[str, Any]) -> None:
    """Build the variant, then do a step for every line of the standard input."""
    keep_to(options["threads"])
    variants = importlib.import_module(f"{options['framework']}_variants")
    process_memory = importlib.import_module("revrnn.experiments.process_memory")
    step, facts = variants.build(options)
    if options.get("limit_mb"):
        process_memory.limit(options["limit_mb"] * 2**20)
    before = variants.reset_peak(options)
    say({"ready": True, **facts})
    for line in sys.stdin:
        if line.strip() == "memory":
            variants.reset_peak(options)
            step()
            say({"peak_bytes": variants.peak(options) - before - facts["gradient_bytes"]})
            continue
        start, start_cpu = time.perf_counter(), time.process_time()
        loss = step()
        cpu, wall = time.process_time() - start_cpu, time.perf_counter() - start
        say({"seconds": wall, "cpu_seconds": cpu, "loss": loss})


def say(answer: dict[str, Any]) -> None:
    """Print one answer."""
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    try:
        serve(json.loads(sys.argv[1]))
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and not any(w in str(error) for w in OUT_OF_MEMORY):
            raise
        say({"out_of_memory": True})
