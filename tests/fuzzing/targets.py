"""What is fed: our server, what asks ports, configurations, and every reader of files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any, Final

import numpy as np
from safetensors.numpy import save

from revrnn import Config, RevRNNError
from revrnn.conformance.adapters import Fault
from revrnn.conformance.limits import parsed
from revrnn.conformance.process import ProcessPort
from revrnn.conformance.serve import answer_line
from revrnn.evaluation import load
from revrnn.operations import OPERATIONS
from revrnn.parameter_files import metadata_of, parameter_shapes, state_shapes
from revrnn.vectors import load as load_vectors
from revrnn.wire import encode

from .changes import changed, damaged

# What our server must not say of its own answer.
UNEXPECTED: Final = ("TypeError", "AttributeError", "IndexError", "KeyError", "AssertionError")


@dataclass
class Target:
    """What takes inputs.

    Attributes:
        inputs: draws one.
        take: is given it; raises a :class:`RevRNNError`, or returns ``""`` or what is wrong.
    """

    inputs: Callable[[Random], bytes]
    take: Callable[[bytes], str]


def targets(folder: Path) -> dict[str, Target]:
    """Return all targets by name.

    Args:
        folder: where files are written, best in memory.
    """
    requests, answers = _lines()
    configs = [config.as_dict() for config in _configs()]
    return {
        "requests": Target(_of_json(requests), _ask),
        "answers": Target(_of_json(answers), _answered),
        "configurations": Target(_of_json(configs), _config),
        **_files_of_parameters(folder),
        **_folders(folder),
        "vectors": _vectors(folder / "vectors"),
    }


def _of_json(values: list[Any]) -> Callable[[Random], bytes]:
    """Return what draws texts of JSON, most of them damaged as values, the others as bytes."""
    texts = [json.dumps(value).encode() for value in values]

    def draw(random: Random) -> bytes:
        if random.random() < 0.7:
            return json.dumps(changed(random.choice(values), values, random)).encode()
        return damaged(random.choice(texts), texts, random)

    return draw


def _of_bytes(texts: list[bytes]) -> Callable[[Random], bytes]:
    return lambda random: damaged(random.choice(texts), texts, random)


# --- the protocol


def _lines() -> tuple[list[Any], list[Any]]:
    """Return requests and answers: of each operation the smallest right ones and an error."""
    requests: list[Any] = []
    answers: list[Any] = []
    for operation in OPERATIONS:
        cases = sorted(load_vectors(operation), key=lambda case: len(str(case.args)))
        for case in [c for c in cases if c.out is not None][:4] + [c for c in cases if c.error][:1]:
            args = {name: encode(value) for name, value in case.args.items()}
            requests.append({"id": 0, "operation": operation, "args": args})
            if case.out is None:
                answers.append({"id": 0, "error": case.error, "message": "no"})
            else:
                out = {name: encode(value) for name, value in case.out.items()}
                answers.append({"id": 0, "out": out})
    return requests, answers


def _ask(line: bytes) -> str:
    answer = answer_line(load("numpy"), line)
    if set(answer) not in ({"id", "out"}, {"id", "error", "message"}, {"hello"}):
        return f"answers {sorted(answer)}"
    json.dumps(answer, allow_nan=False)
    text = str(answer.get("message", ""))
    return text if text.partition(":")[0] in UNEXPECTED else ""


def answer_of(value: object) -> object:
    """Return what the suite makes of a port's message: an answer or a fault."""
    port = ProcessPort.__new__(ProcessPort)
    port.timeout = 1.0

    class Line:
        def receive(self, seconds: float) -> object:
            return value

    return port._answer(Line(), 0)  # type: ignore[arg-type]


def _answered(line: bytes) -> str:
    answer = answer_of(parsed(line))
    if isinstance(answer, Fault):
        return "" if len(str(answer)) < 700 else f"a fault of {len(str(answer))} characters"
    return "" if isinstance(answer, dict) else f"returns {type(answer).__name__}"


# --- configurations and files


def _configs() -> list[Config]:
    return [
        Config("revgru", 2, 4),
        Config("revlstm", 1, 2, 2, 3, slice_size=1),
        Config("revlstm", 3, 6, buffer="wordlist", z_max=512, p_max=700),
        Config("revgru", 2, 2, forgetting=False),
    ]


def _config(text: bytes) -> str:
    config = Config.of(_json(text))
    return "" if Config.of(config.as_dict()) == config else "another configuration"


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RevRNNError("E_ARGUMENT", "text", "no JSON", "JSON") from error


def _files_of_parameters(folder: Path) -> dict[str, Target]:
    random = np.random.default_rng(0)
    parameters, states = [], []
    for config in _configs():
        for directions in (1, 2) if config.cell == "revgru" else (1,):
            arrays: Any = {
                name: random.normal(size=shape).astype(np.float32)
                for name, shape in parameter_shapes(config, directions).items()
            }
            parameters.append(save(arrays, metadata_of(config, "parameters", directions)))
        arrays = {
            name: np.full(shape, 2**15, np.int64 if name == "heads" else np.int32)
            for name, shape in state_shapes(config, 2).items()
        }
        states.append(save(arrays, metadata_of(config, "state")))
    made = {}
    for framework in ("torch", "jax"):
        reader: Any = import_module(f"revrnn.{framework}_impl.files")
        for kind, texts in (("parameters", parameters), ("state", states)):
            path = folder / f"{framework}.{kind}"
            made[f"{kind}, {framework}"] = Target(
                _of_bytes(texts), _reads(path, getattr(reader, f"load_{kind}"))
            )
    return made


def _reads(path: Path, read: Callable[[Path], Any]) -> Callable[[bytes], str]:
    def take(data: bytes) -> str:
        path.write_bytes(data)
        read(path)
        return ""

    return take


def _folders(folder: Path) -> dict[str, Target]:
    """Return the files of a run's folder, each damaged while the others are right."""
    runs: Any = import_module("revrnn.experiments.runs")
    place = folder / "run"
    run = runs.RunFolder.new(place, {"cell": "revgru", "steps": 3, "rate": 1e-3})
    run.log("step", loss=1.5)
    run.save("last", {"h": np.arange(6).reshape(2, 3), "n": np.float32(2)}, {"step": 1})
    run.log("step", loss=1.25)
    run.save("best", {"h": np.arange(6)}, {"step": 2})
    run.set_summary({"loss": 1.25})

    def opened() -> None:
        at = runs.RunFolder.existing(place)
        at.config, at.summary, at.records("step")
        at.load("last")
        at.best()
        at.rewind()

    whole = {path.name: path.read_bytes() for path in sorted(place.iterdir()) if path.is_file()}
    made = {}
    for name, content in whole.items():
        texts = [content, content[: len(content) // 2] or b"x"]

        def take(data: bytes, name: str = name) -> str:
            with _restored(place, whole):
                (place / name).write_bytes(data)
                opened()
            return ""

        made[f"a run's {name}"] = Target(_of_bytes(texts), take)
    return made


@contextmanager
def _restored(place: Path, whole: dict[str, bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        for name, content in whole.items():
            (place / name).write_bytes(content)


def _vectors(place: Path) -> Target:
    """Return the reader of vectors: a file with its own sum, or the manifest, is damaged."""
    place.mkdir()
    own = files("revrnn.vectors")
    cases = json.loads(own.joinpath("tanh.json").read_bytes())
    cases["cases"] = cases["cases"][:3]
    manifest = json.loads(own.joinpath("manifest.json").read_bytes())
    draw, of_manifest = _of_json([cases]), _of_json([manifest | {"files": {"tanh.json": {}}}])

    def inputs(random: Random) -> bytes:
        return draw(random) if random.random() < 0.7 else b"m" + of_manifest(random)

    def take(data: bytes) -> str:
        entry = {"cases": 3, "sha256": hashlib.sha256(data).hexdigest()}
        listed = json.dumps({**manifest, "files": {"tanh.json": entry}}).encode()
        is_manifest = data.startswith(b"m")
        (place / "manifest.json").write_bytes(data[1:] if is_manifest else listed)
        (place / "tanh.json").write_bytes(b"{}" if is_manifest else data)
        with suppress(KeyError):  # no vectors of this operation
            load_vectors("tanh", place)
        return ""

    return Target(inputs, take)
