"""A Python adapter as a process of its own: ``python -m revrnn.conformance.serve --adapter NAME``.

It speaks the messages of CONF-003, so it is also what a port's own loop may look like.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, TextIO

from revrnn import SPEC_VERSION
from revrnn.errors import RevRNNError
from revrnn.evaluation import Implementation
from revrnn.wire import decode, encode

from .adapters import find
from .profiles import PROFILES


def answer(implementation: Implementation, request: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to one request."""
    if "hello" in request:
        profiles = list(getattr(implementation, "profiles", PROFILES))
        hello = {"name": implementation.name, "layouts": list(implementation.layouts)}
        return {"hello": hello | {"profiles": profiles, "spec_version": SPEC_VERSION}}
    args = {name: decode(value) for name, value in request["args"].items()}
    try:
        found = implementation.evaluate(request["operation"], args)
    except RevRNNError as error:
        return {"id": request["id"], "error": error.code, "message": str(error)}
    return {"id": request["id"], "out": {name: encode(value) for name, value in found.items()}}


def serve(implementation: Implementation, requests: TextIO, answers: TextIO) -> None:
    """Answer every line."""
    for line in requests:
        found = answer(implementation, json.loads(line))
        answers.write(json.dumps(found, separators=(",", ":")) + "\n")
        answers.flush()


def main(arguments: list[str] | None = None) -> int:
    """Serve until the input ends."""
    parser = argparse.ArgumentParser(prog="python -m revrnn.conformance.serve", description=__doc__)
    parser.add_argument("--adapter", required=True, help="as for python -m revrnn.conformance")
    implementation = find(parser.parse_args(arguments).adapter)
    serve(implementation, sys.stdin, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
