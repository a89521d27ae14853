"""A Python adapter as a process of its own: ``python -m revrnn.conformance.serve --adapter NAME``.

It speaks the messages of CONF-003, so it is also what a port's own loop may look like.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, BinaryIO, Final

from revrnn import SPEC_VERSION
from revrnn.command_line import run_program
from revrnn.errors import RevRNNError
from revrnn.evaluation import Implementation
from revrnn.wire import decode, encode

from .adapters import find
from .limits import shortened
from .profiles import PROFILES

# Longer lines are no requests.
LONGEST_REQUEST: Final = 64 * 2**20


def answer(implementation: Implementation, request: Any) -> dict[str, Any]:
    """Return the answer to one request; to what is none, an error."""
    if not isinstance(request, dict):
        return _refusal(None, "E_ARGUMENT", f"a {type(request).__name__} is no request")
    if "hello" in request:
        profiles = list(getattr(implementation, "profiles", PROFILES))
        hello = {"name": implementation.name, "layouts": list(implementation.layouts)}
        return {"hello": hello | {"profiles": profiles, "spec_version": SPEC_VERSION}}
    number = request.get("id")
    if type(number) is not int or not 0 <= number < 2**31:
        return _refusal(None, "E_ARGUMENT", "id must be a whole number below 2^31")
    if not isinstance(request.get("args"), dict):
        return _refusal(number, "E_ARGUMENT", "args must be an object")
    try:
        args = {name: decode(value) for name, value in request["args"].items()}
    except (ValueError, TypeError, RecursionError, OverflowError, MemoryError) as error:
        return _refusal(number, "E_ARGUMENT", f"args: {error}")
    try:
        results = implementation.evaluate(request.get("operation", ""), args)
        out = {name: encode(value) for name, value in results.items()}
    except RevRNNError as error:
        return _refusal(number, error.code, str(error))
    except Exception as error:
        # ERR-002: beyond the means of this implementation, which is never a pass.
        return _refusal(number, "E_UNSUPPORTED", f"{type(error).__name__}: {error}")
    return {"id": number, "out": out}


def _refusal(number: int | None, code: str, message: str) -> dict[str, Any]:
    return {"id": number, "error": code, "message": shortened(message)}


def answer_line(implementation: Implementation, line: bytes) -> dict[str, Any]:
    """Return the answer to one line."""
    try:
        request = json.loads(line.decode())  # other encodings than UTF-8 are no requests
    except (ValueError, RecursionError) as error:
        return _refusal(None, "E_ARGUMENT", f"no JSON: {error}")
    return answer(implementation, request)


def serve(implementation: Implementation, requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer every line, until the input ends or nobody reads the answers."""
    while line := requests.readline(LONGEST_REQUEST):
        if len(line) == LONGEST_REQUEST and not line.endswith(b"\n"):
            while (rest := requests.readline(2**20)) and not rest.endswith(b"\n"):
                pass
            line = b""
        text = json.dumps(answer_line(implementation, line), separators=(",", ":"))
        try:
            answers.write(text.encode("ascii") + b"\n")
            answers.flush()
        except BrokenPipeError:
            return


def main(arguments: list[str] | None = None) -> int:
    """Serve until the input ends."""
    parser = argparse.ArgumentParser(prog="python -m revrnn.conformance.serve", description=__doc__)
    parser.add_argument("--adapter", required=True, help="as for python -m revrnn.conformance")
    try:
        implementation = find(parser.parse_args(arguments).adapter)
    except RevRNNError as error:
        print(error, file=sys.stderr)
        return 2
    serve(implementation, sys.stdin.buffer, sys.stdout.buffer)
    return 0


if __name__ == "__main__":
    run_program(main)
