"""Writing the test vectors: ``python -m revrnn.vector_maker FOLDER``.

With ``--check`` nothing is written: the files are made anew in memory and compared byte for byte
with those of the folder. Before a case gets its answer, the oracle and the second opinion must
agree on it.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from revrnn import SPEC_VERSION
from revrnn.comparison import differences, tolerance_of
from revrnn.evaluation import Implementation, outcome
from revrnn.kinds import KINDS
from revrnn.operations import OPERATIONS
from revrnn.rules import rules
from revrnn.wire import dump, encode

from ..numpy_ref import IMPLEMENTATION as NUMPY
from ..second_opinion import IMPLEMENTATION as NAIVE
from .cases import FLAGS, drafts
from .cases.draft import Draft
from .schema import UNKNOWN_OPERATION, Json, schema

ORACLE: Final[Implementation] = NUMPY
SECOND_OPINION: Final[Implementation] = NAIVE

# Files of the folder that people write.
BY_HAND: Final = {"README.md", "__init__.py", "__pycache__"}

# The results that need not be exact, by operation.
_FLOATS: Final = {
    "sequence_gradient": ("gradient", "^grad_"),
    "sequence_storage": ("information", "^ideal_bits$"),
}


def tolerance_entry(operation: str) -> Json:
    """Return what a file says of an operation's tolerance."""
    kind, results = _FLOATS[operation]
    tolerance = KINDS[kind].tolerance
    assert tolerance is not None
    limits = {"absolute": tolerance.absolute.hex(), "relative": tolerance.relative.hex()}
    return {**limits, "results": results, "rule": tolerance.rule}


def file_of(operation: str) -> str:
    """Return the file of an operation's cases; all names that no operation has share one."""
    return operation if operation in OPERATIONS else UNKNOWN_OPERATION


def case_id(operation: str, arguments: Json) -> str:
    """Return the identifier of a case, from its encoded arguments alone."""
    digest = hashlib.sha256(dump(arguments).encode("ascii")).hexdigest()
    return f"{file_of(operation)}-{digest[:16]}"


def answer(draft: Draft) -> Json:
    """Return the oracle's results or error, after asking the second opinion too."""
    expected = outcome(ORACLE, draft.operation, draft.args)
    if expected.get("error") != draft.error:
        raise AssertionError(f"{draft.operation}: {draft.error} was meant, not {expected}")
    second = outcome(SECOND_OPINION, draft.operation, draft.args)
    if second != {"error": "E_UNSUPPORTED"} or draft.operation != "sequence_gradient":
        lines = differences(expected, second)
        if lines:
            raise AssertionError(f"the second opinion differs from the oracle in {draft}: {lines}")
    if draft.error:
        return {"error": draft.error}
    return {"out": {name: encode(_settled(name, value)) for name, value in expected.items()}}


def _settled(name: str, value: Any) -> Any:
    """Round float results to multiples of 2^-32, far within their tolerances.

    Their last bits are those of a machine's sums and logarithms; the files are to be everyone's.
    """
    if tolerance_of(name) is None:
        return value
    # Adding 0 makes a negative zero positive.
    rounded = np.rint(np.ldexp(value, 32)) * 2.0**-32 + 0.0
    return rounded if isinstance(value, np.ndarray) else float(rounded)


def case(draft: Draft) -> Json:
    """Return a whole case."""
    unknown = set(draft.rules) - set(rules()) | set(draft.catches) - set(FLAGS)
    if unknown:
        raise AssertionError(f"{draft.operation} names unknown rules or flags: {sorted(unknown)}")
    args = encode(draft.args)
    names: Json = {"catches": sorted(set(draft.catches)), "rules": sorted(set(draft.rules))}
    if draft.operation != file_of(draft.operation):
        names["operation"] = draft.operation
    return {"id": case_id(draft.operation, args), "args": args, **names, **answer(draft)}


def cases_by_operation() -> dict[str, list[Json]]:
    """Return all cases in the order of their requests.

    Raises:
        AssertionError: where the implementations disagree, a request stands twice, a rule or flag
            does not exist or a flag has no case.
    """
    cases: dict[str, list[Json]] = {name: [] for name in (*OPERATIONS, UNKNOWN_OPERATION)}
    ids: set[str] = set()
    flags: set[str] = set()
    for draft in drafts(ORACLE.evaluate):
        whole = case(draft)
        if whole["id"] in ids:
            raise AssertionError(f"{whole['id']} stands twice: {draft}")
        ids.add(whole["id"])
        flags.update(whole["catches"])
        cases[file_of(draft.operation)].append(whole)
    empty = {name for name, made in cases.items() if not made} | (set(FLAGS) - flags)
    if empty:
        raise AssertionError(f"operations or flags without a case: {sorted(empty)}")
    return cases


def file_text(operation: str, cases: Iterable[Json]) -> str:
    """Return the text of one operation's file, a case a line."""
    lines = ",\n".join(dump(item) for item in cases)
    tail: Json = {"operation": operation, "spec_version": SPEC_VERSION}
    if operation in _FLOATS:
        tail["tolerance"] = tolerance_entry(operation)
    return '{"cases":[\n' + lines + "\n]," + dump(tail)[1:] + "\n"


def block(entries: Mapping[str, Any]) -> str:
    """Return the text of a mapping, an entry a line."""
    return "{\n" + ",\n".join(f"{dump(n)}:{dump(entries[n])}" for n in sorted(entries)) + "\n}"


def schema_text() -> str:
    """Return the text of the schema, a definition a line."""
    whole = schema()
    return f'{{"$defs":{block(whole.pop("$defs"))},' + dump(whole)[1:] + "\n"


def manifest_text(texts: Mapping[str, str], counts: Mapping[str, int]) -> str:
    """Return the text of the manifest, a file or flag a line."""
    entries: dict[str, Json] = {}
    for name, text in texts.items():
        entries[name] = {"sha256": hashlib.sha256(text.encode("ascii")).hexdigest()}
        if name in counts:
            entries[name]["cases"] = counts[name]
    tail = {"spec_version": SPEC_VERSION, "total": sum(counts.values())}
    return f'{{"files":{block(entries)},"flags":{block(FLAGS)},' + dump(tail)[1:] + "\n"


def make() -> dict[str, str]:
    """Return the texts of all files by name."""
    cases = cases_by_operation()
    texts = {f"{name}.json": file_text(name, made) for name, made in cases.items()}
    counts = {f"{name}.json": len(made) for name, made in cases.items()}
    texts["schema.json"] = schema_text()
    return texts | {"manifest.json": manifest_text(texts, counts)}


def check(folder: Path) -> list[str]:
    """Return what differs between a folder and what would be written to it."""
    texts = make()
    faults = []
    for name, text in texts.items():
        path = folder / name
        if not path.is_file():
            faults.append(f"{name} is missing")
        elif path.read_bytes() != text.encode("ascii"):
            faults.append(f"{name} differs")
    extra = {path.name for path in folder.iterdir()} - set(texts) - BY_HAND
    return faults + [f"{name} is extra" for name in sorted(extra)]


def main(arguments: list[str]) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m revrnn.vector_maker")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true", help="only compare with the folder")
    options = parser.parse_args(arguments)
    if not options.folder.is_dir():
        parser.error(f"folder: {options.folder} given, a folder that exists allowed")
    if options.check:
        faults = check(options.folder)
        print("\n".join(faults) or "The vectors are as they would be written.")
        return 1 if faults else 0
    texts = make()
    for name, text in texts.items():
        (options.folder / name).write_text(text, encoding="ascii", newline="\n")
    print(f"{len(texts)} files, {sum(map(len, texts.values()))} bytes")
    return 0
